package testserver_test

import (
	"net/http"
	"testing"

	"github.com/openbao/openbao/api/v2"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

func encrypt(t *testing.T, v *testserver.Vault) string {
	t.Helper()
	data := v.Write("transit/encrypt/k8s", map[string]any{"plaintext": "aGVsbG8=", "associated_data": "YWFk"})
	return data["ciphertext"].(string)
}

func decrypt(t *testing.T, v *testserver.Vault, ciphertext string) {
	t.Helper()
	data := v.Write("transit/decrypt/k8s", map[string]any{"ciphertext": ciphertext, "associated_data": "YWFk"})
	if data["plaintext"] != "aGVsbG8=" {
		t.Fatalf("decrypted %q", data["plaintext"])
	}
}

func TestVaultKeepsItsKeysWhenItRestarts(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t)
	v.MountTransit("transit")
	v.CreateKey("transit", "k8s", nil)
	ciphertext := encrypt(t, v)
	decrypt(t, v, ciphertext)
	v.Restart()
	decrypt(t, v, ciphertext)
	v.Kill()
	if _, err := v.Client().Sys().Health(); err == nil {
		t.Fatal("a killed vault answered")
	}
	v.Start()
	decrypt(t, v, ciphertext)
}

func TestVaultThatIsSealedAnswersAndRefuses(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t)
	v.MountTransit("transit")
	v.CreateKey("transit", "k8s", map[string]any{"type": "aes256-gcm96"})
	ciphertext := encrypt(t, v)
	v.Seal()
	_, err := v.Client().Logical().Write("transit/encrypt/k8s", map[string]any{"plaintext": "aGVsbG8="})
	if answer, ok := err.(*api.ResponseError); !ok || answer.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("a sealed vault answered %v", err)
	}
	v.Unseal()
	decrypt(t, v, ciphertext)
}

func TestVaultOverTLSTakesClientCertificates(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t, testserver.WithTLS())
	if err := v.Client().Sys().EnableAuthWithOptions("cert", &api.EnableAuthOptions{Type: "cert"}); err != nil {
		t.Fatal(err)
	}
	v.Write("auth/cert/certs/node", map[string]any{"certificate": v.CA.PEM(t), "allowed_common_names": "node-1"})
	cert, key := v.CA.Issue(t, "node-1")
	config := api.DefaultConfig()
	config.Address = v.Address
	if err := config.ConfigureTLS(&api.TLSConfig{CACert: v.CA.File, ClientCert: cert, ClientKey: key}); err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	login, err := client.Logical().Write("auth/cert/login", nil)
	if err != nil {
		t.Fatal(err)
	}
	if login.Auth == nil || login.Auth.ClientToken == "" {
		t.Fatal("the login gave no token")
	}
}

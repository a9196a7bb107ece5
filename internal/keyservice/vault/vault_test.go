package vault_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// engine is a transit engine with one key and a policy named after its mount, on a real server that tests may share.
type engine struct {
	*testserver.Vault
	mount string
}

const keyName = "k8s"

func newEngine(t *testing.T, v *testserver.Vault, mount string) engine {
	t.Helper()
	v.MountTransit(mount)
	v.CreateKey(mount, keyName, nil)
	e := engine{v, mount}
	e.allow(t)
	return e
}

// allow gives the policy of this engine the least policy that is documented, so that every test runs with no more.
func (e engine) allow(t testing.TB) {
	t.Helper()
	c := vault.Config{Mount: e.mount, Key: keyName}
	if err := e.Client().Sys().PutPolicy(e.mount, c.LeastPolicy()); err != nil {
		t.Fatal(err)
	}
}

// token makes a token with nothing but the least policy.
func (e engine) token(t testing.TB, params map[string]any) string {
	t.Helper()
	request := map[string]any{"policies": []string{e.mount}, "no_default_policy": true, "ttl": "1h"}
	for name, value := range params {
		request[name] = value
	}
	secret, err := e.Client().Logical().Write("auth/token/create", request)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Auth.ClientToken
}

func (e engine) config(auth vault.Auth, addresses ...string) vault.Config {
	if len(addresses) == 0 {
		addresses = []string{e.Address}
	}
	c := vault.Config{Addresses: addresses, Mount: e.mount, Key: keyName, Auth: auth}
	if e.CA != nil {
		c.CAFile = e.CA.File
	}
	return c
}

func (e engine) keyPath() string { return e.mount + "/keys/" + keyName }

func (e engine) rotate(t *testing.T) {
	t.Helper()
	e.Write(e.keyPath()+"/rotate", nil)
}

func (e engine) remove(t *testing.T) {
	t.Helper()
	e.Write(e.keyPath()+"/config", map[string]any{"deletion_allowed": true})
	if _, err := e.Client().Logical().Delete(e.keyPath()); err != nil {
		t.Fatal(err)
	}
}

func (e engine) recreate(t *testing.T) {
	t.Helper()
	e.remove(t)
	time.Sleep(1100 * time.Millisecond) // creation times have a resolution of one second
	e.CreateKey(e.mount, keyName, nil)
}

// secretFile writes a credential for one test.
func secretFile(t testing.TB, content string) credential.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credential")
	keyservicetest.ReplaceFile(t, path, content+"\n")
	return credential.File(path)
}

func open(t testing.TB, c vault.Config, log *slog.Logger) *vault.Key {
	t.Helper()
	return keyservicetest.Open(t, vault.Open, c, log)
}

var secret, aad = []byte(keyservicetest.Secret), []byte(keyservicetest.AAD)

func TestConformance(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t)
	client := v.Client()
	if err := client.Sys().EnableAuthWithOptions("approle", &api.EnableAuthOptions{Type: "approle"}); err != nil {
		t.Fatal(err)
	}
	n := 0
	keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
		n++
		e := newEngine(t, v, "team/transit-"+string(rune('a'+n)))
		auth, roleSecret := e.appRole(t, strings.ReplaceAll(e.mount, "/", "-"))
		p := newProxy(t, v.Address)
		return keyservicetest.Harness{
			Open:     func(t *testing.T, log *slog.Logger) keyservice.Key { return open(t, e.config(auth, p.URL), log) },
			Form:     vault.Describe().Forms[0],
			Rotate:   e.rotate,
			Recreate: e.recreate,
			Secrets:  []string{roleSecret, v.RootToken},
			Stall:    func(*testing.T) func() { return p.set(stall) },
			Faults: []keyservicetest.ServiceFault{
				{Name: "sealed", Kind: keyservice.Unavailable, Break: func(*testing.T) func() { v.Seal(); return v.Unseal }},
				{Name: "refusing connections", Kind: keyservice.Unavailable, Break: func(*testing.T) func() { return p.set(cut) }},
				{Name: "policy taken away", Kind: keyservice.Denied, Break: func(t *testing.T) func() {
					if err := client.Sys().PutPolicy(e.mount, `path "x/*" { capabilities = ["read"] }`); err != nil {
						t.Fatal(err)
					}
					return func() { e.allow(t) }
				}},
				{Name: "rate limited", Kind: keyservice.Throttled, Break: func(t *testing.T) func() {
					quota := "sys/quotas/rate-limit/" + strings.ReplaceAll(e.mount, "/", "-")
					e.Write(quota, map[string]any{"path": e.mount, "rate": 0.001})
					for range 3 { // the bucket is not empty at first
						client.Logical().Read(e.keyPath())
					}
					return func() { client.Logical().Delete(quota) }
				}},
				{Name: "damaged answers", Kind: keyservice.Corrupt, Break: func(*testing.T) func() { return p.set(garbage) }},
				{Name: "min_decryption_version raised", Kind: keyservice.Disabled, Break: func(t *testing.T) func() {
					e.rotate(t)
					e.Write(e.keyPath()+"/config", map[string]any{"min_decryption_version": 2, "min_encryption_version": 2})
					return func() {
						e.Write(e.keyPath()+"/config", map[string]any{"min_encryption_version": 0, "min_decryption_version": 1})
					}
				}},
				{Name: "key deleted", Kind: keyservice.NotFound, Break: func(t *testing.T) func() { e.remove(t); return nil }},
			},
		}
	})
}

// appRole makes a role for the engine's policy and returns how to log in to it, with its secret id.
func (e engine) appRole(t testing.TB, role string) (vault.Auth, string) {
	t.Helper()
	e.Write("auth/approle/role/"+role, map[string]any{
		"token_policies": []string{e.mount}, "token_no_default_policy": true, "token_ttl": "1h",
	})
	id, err := e.Client().Logical().Read("auth/approle/role/" + role + "/role-id")
	if err != nil {
		t.Fatal(err)
	}
	secretID := e.Write("auth/approle/role/"+role+"/secret-id", nil)["secret_id"].(string)
	return vault.Auth{AppRole: &vault.AppRole{
		Mount: "approle", RoleID: id.Data["role_id"].(string), SecretIDFile: secretFile(t, secretID),
	}}, secretID
}

// Package keyservices starts one of every key service for the lab: the real one where it can be had, and otherwise the fake that
// its own tests use, which speaks the real wire protocol over a real socket.
//
// It promises that a daemon can use the key that Start returns for as long as the test lasts, and that rotating it makes the
// daemon seal with another version. It says nothing of how good a fake is: docs/keyservices does.
package keyservices

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice/awskms/awskmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv/azurekvtest"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms/gcpkmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip/kmiptest"
	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11/pkcs11test"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmtest"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream/upstreamtest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// Service is a key service that can be started.
type Service struct {
	Name  string
	Start func(t testing.TB) Key
}

// Key is a key in a key service that runs.
type Key struct {
	Entry  string   // of keys in the daemon's configuration, as flow YAML without its braces
	Env    []string // what the daemon needs in its environment
	Bin    string   // the folder in bin/ of the daemon that has this key service; "" for the usual one
	Rotate func()
	Faults *testserver.Faults // before the service; nil for those that are not fakes over HTTP
}

// All returns every key service that opens what it wraps.
func All() []Service {
	return []Service{
		{"local", local}, {"vault", vault}, {"awskms", awskms}, {"azurekv", azurekv}, {"gcpkms", gcpkms},
		{"pkcs11", pkcs11}, {"kmip", kmip}, {"tpm", tpm}, {"upstream", upstream},
	}
}

func local(t testing.TB) Key {
	secret, keystore := write(t, rand.Text()+rand.Text()), filepath.Join(t.TempDir(), "keystore")
	trousseau(t, "keystore", "create", "--key-file", secret, keystore)
	return Key{
		Entry:  fmt.Sprintf("name: disk, local: {keystore: %s, keyFile: %s}", keystore, secret),
		Rotate: func() { trousseau(t, "keystore", "rotate", "--delay", "0s", "--key-file", secret, keystore) },
	}
}

func vault(t testing.TB) Key {
	v := testserver.StartVault(t)
	v.MountTransit("transit")
	v.CreateKey("transit", "k8s", map[string]any{"type": "aes256-gcm96"})
	return Key{
		Entry: fmt.Sprintf("name: bao, vault: {addresses: [%q], mount: transit, key: k8s, auth: {tokenFile: %s}}",
			v.Address, write(t, v.RootToken)),
		Rotate: func() { v.Write("transit/keys/k8s/rotate", nil) },
	}
}

func awskms(t testing.TB) Key {
	fake := awskmstest.Start(t)
	arn := fake.CreateKey(true)
	credentials, _ := fake.CredentialsFile(t)
	return Key{
		Entry:  fmt.Sprintf("name: aws, awskms: {keyARN: %q, endpoint: %q, credentialsFile: %s}", arn, fake.URL, credentials),
		Rotate: func() { fake.Rotate(arn) },
		Faults: &fake.Faults,
	}
}

func azurekv(t testing.TB) Key {
	fake := azurekvtest.Start(t)
	fake.SetClientSecret("client-secret")
	fake.CreateKey("k8s", "oct-HSM")
	return Key{
		Entry: fmt.Sprintf("name: azure, azurekv: {managedHSM: lab, key: k8s, algorithm: A256KW, cloud: custom, vaultURL: %q, "+
			"authorityHost: %q, caFile: %s, auth: {clientSecret: {tenantID: %s, clientID: %s, secretFile: %s}}}",
			fake.URL, fake.URL, fake.CAFile, fake.TenantID, fake.ClientID, write(t, "client-secret")),
		Rotate: func() { fake.Rotate("k8s") },
		Faults: &fake.Vault,
	}
}

func gcpkms(t testing.TB) Key {
	fake := gcpkmstest.Start(t)
	return Key{
		Entry:  fmt.Sprintf("name: gcp, gcpkms: {key: %q, endpoint: %q, credentialsFile: %s}", gcpkmstest.Key, fake.Endpoint, fake.CredentialsFile),
		Rotate: func() { fake.Rotate() },
	}
}

func pkcs11(t testing.TB) Key {
	token, made := pkcs11test.Start(t), 1
	token.GenerateAES("k8s-1")
	return Key{
		Entry: fmt.Sprintf("name: hsm, pkcs11: {module: %s, token: %s, pinFile: %s, label: \"k8s-*\"}", pkcs11test.Module, token.Label, token.PINFile),
		Env:   token.Env(),
		Bin:   "pkcs11",
		Rotate: func() {
			made++
			token.GenerateAES(fmt.Sprint("k8s-", made))
		},
	}
}

func kmip(t testing.TB) Key {
	fake := kmiptest.Start(t)
	id := fake.CreateKey("k8s")
	return Key{
		Entry: fmt.Sprintf("name: kmip, kmip: {addresses: [%q], caFile: %s, clientCertFile: %s, clientKeyFile: %s, key: {name: k8s}}",
			fake.Address, fake.CA.File, fake.ClientCert, fake.ClientKey),
		Rotate: func() { id = fake.Rekey(id) },
	}
}

func tpm(t testing.TB) Key {
	device, keystore := string(tpmtest.Start(t).Device), filepath.Join(t.TempDir(), "keystore")
	trousseau(t, "tpm", "create", "--device", device, keystore)
	return Key{
		Entry:  fmt.Sprintf("name: tpm, tpm: {device: %q, keystore: %s, sealedKey: %s.tpm}", device, keystore, keystore),
		Rotate: func() { trousseau(t, "tpm", "rotate", "--delay", "0s", "--device", device, keystore) },
	}
}

func upstream(t testing.TB) Key {
	plugin := upstreamtest.Start(t)
	return Key{
		Entry:  fmt.Sprintf("name: other, upstream: {socket: %s}", plugin.Socket),
		Rotate: func() { plugin.Rotate() },
	}
}

// trousseau runs the operator's tool.
func trousseau(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command(testserver.Binary(t, "trousseau", "run: make build"), args...)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("trousseau %q: %v\n%s", args, err, output)
	}
}

// write returns the path of a private file.
func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

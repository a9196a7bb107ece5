package azurekv_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv/azurekvtest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

const (
	keyName      = "k8s"
	clientSecret = "Qx8~clientsecretvalue"
)

var secret = []byte(keyservicetest.Secret)

// fixture returns a vault with one key for an algorithm, and the configuration of that key with a client secret and the
// least role.
func fixture(t testing.TB, form keyservice.Form) (*azurekvtest.Fake, azurekv.Config) {
	t.Helper()
	fake := azurekvtest.Start(t)
	fake.SetClientSecret(clientSecret)
	c := azurekv.Config{
		Vault: "myvault", Key: keyName, Algorithm: "RSA-OAEP-256", Cloud: "custom",
		VaultURL: fake.URL, AuthorityHost: fake.URL, CAFile: fake.CAFile,
		Auth: azurekv.Auth{ClientSecret: &azurekv.ClientSecret{
			TenantID: fake.TenantID, ClientID: fake.ClientID, SecretFile: file(t, clientSecret),
		}},
	}
	kind := "RSA"
	if form == aes {
		kind = "oct-HSM"
		c.Vault, c.ManagedHSM, c.Algorithm = "", "myhsm", "A256KW"
	}
	fake.CreateKey(keyName, kind)
	fake.Allow(t, c.LeastPolicy())
	return fake, c
}

var rsa, aes = azurekv.Describe().Forms[0], azurekv.Describe().Forms[1]

func file(t testing.TB, content string) credential.File {
	t.Helper()
	path := credential.File(filepath.Join(t.TempDir(), "credential"))
	keyservicetest.ReplaceFile(t, path, content+"\n")
	return path
}

func open(t testing.TB, c azurekv.Config) *azurekv.Key {
	t.Helper()
	return keyservicetest.Open(t, azurekv.Open, c, nil)
}

// wantKind is keyservicetest.WantKind, and sees that the error shows neither the client secret nor a token.
func wantKind(t testing.TB, err error, kind keyservice.Kind, text string) {
	t.Helper()
	keyservicetest.WantKind(t, err, kind, text, clientSecret, "eyJ") // all tokens begin with the last
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, form := range azurekv.Describe().Forms {
		t.Run(form.Algorithm, func(t *testing.T) {
			t.Parallel()
			keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness { return harness(t, form) })
		})
	}
}

func harness(t *testing.T, form keyservice.Form) keyservicetest.Harness {
	fake, config := fixture(t, form)
	breaking := func(name string, kind keyservice.Kind, with func() (repair func())) keyservicetest.ServiceFault {
		return keyservicetest.ServiceFault{Name: name, Kind: kind, Break: func(*testing.T) func() { return with() }}
	}
	refusing := func(name string, kind keyservice.Kind, r azurekvtest.Refusal) keyservicetest.ServiceFault {
		return breaking(name, kind, func() func() { return fake.Refuse(r) })
	}
	return keyservicetest.Harness{
		Open: func(t *testing.T, log *slog.Logger) keyservice.Key {
			return keyservicetest.Open(t, azurekv.Open, config, log)
		},
		Form:   form,
		Rotate: func(*testing.T) { fake.Rotate(keyName) },
		Recreate: func(*testing.T) {
			fake.Delete(keyName)
			fake.Purge(keyName)
			fake.CreateKey(keyName, map[bool]string{true: "RSA", false: "oct-HSM"}[form == rsa])
		},
		Stall:   func(*testing.T) func() { return fake.Vault.Set(testserver.Stall) },
		Secrets: []string{clientSecret},
		Faults: []keyservicetest.ServiceFault{
			breaking("connections cut", keyservice.Unavailable, func() func() { return fake.Vault.Set(testserver.Cut) }),
			breaking("damaged answers", keyservice.Corrupt, func() func() { return fake.Vault.Set(testserver.Garble) }),
			breaking("role taken away", keyservice.Denied, func() func() {
				fake.Allow(t, "{}")
				return func() { fake.Allow(t, config.LeastPolicy()) }
			}),
			breaking("version disabled", keyservice.Disabled, func() func() {
				fake.SetEnabled(keyName, "", false)
				return func() { fake.SetEnabled(keyName, "", true) }
			}),
			breaking("key deleted", keyservice.NotFound, func() func() {
				fake.Delete(keyName)
				return func() { fake.Recover(keyName) }
			}),
			refusing("throttled", keyservice.Throttled, azurekvtest.Refusal{Status: 429, Code: "Throttled", RetryAfter: "1"}),
			refusing("service broken", keyservice.Unavailable, azurekvtest.Refusal{Status: 503, Code: "ServiceUnavailable"}),
		},
	}
}

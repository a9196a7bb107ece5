package azurekv_test

import (
	"slices"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv/azurekvtest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// inspect returns the rules that were found, sorted.
func inspect(t *testing.T, c azurekv.Config) []string {
	t.Helper()
	found := keyservicetest.Inspect(t, open(t, c))
	for _, f := range found {
		if f.Severity == finding.Info && f.Fix == "" {
			t.Errorf("%s has no fix", f.Rule)
		}
	}
	return keyservicetest.Rules(found)
}

func TestInspect(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, aes)
	certFile, keyFile := fake.NewClientCertificate(t, time.Now().Add(365*24*time.Hour))
	config.Auth = azurekv.Auth{ClientCertificate: &azurekv.ClientCertificate{
		TenantID: fake.TenantID, ClientID: fake.ClientID, CertFile: certFile, KeyFile: credential.File(keyFile),
	}}
	check := func(name string, c azurekv.Config, want ...string) {
		t.Helper()
		if got := inspect(t, c); !slices.Equal(got, want) {
			t.Errorf("%s: found %q, want %q", name, got, want)
		}
	}
	good := azurekvtest.Settings{
		Operations: []string{"wrapKey", "unwrapKey"}, RecoveryLevel: "Recoverable+ProtectedSubscription", Rotates: true,
	}
	fake.Set(keyName, good)
	check("least role", config, "azurekv-rotation-unknown")
	fake.Allow(t, `{"dataActions": ["/keys/read/action", "/keys/wrap/action", "/keys/unwrap/action", "/keys/rotationpolicy"]}`)
	check("a good key", config, "azurekv-ok")

	fake.SetClock(2 * time.Minute)
	check("clock skew", config, "azurekv-clock-skew")
	fake.SetClock(0)

	with := func(change func(*azurekvtest.Settings)) {
		settings := good
		change(&settings)
		fake.Set(keyName, settings)
	}
	with(func(s *azurekvtest.Settings) { s.Rotates = false })
	check("no rotation", config, "azurekv-rotation-off")
	with(func(s *azurekvtest.Settings) { s.RecoveryLevel = "Recoverable+Purgeable" })
	check("no purge protection", config, "azurekv-no-purge-protection")
	with(func(s *azurekvtest.Settings) { s.RecoveryLevel = "Purgeable" })
	check("no soft delete", config, "azurekv-no-purge-protection", "azurekv-no-soft-delete")
	with(func(s *azurekvtest.Settings) { s.Exportable, s.Managed = true, true })
	check("exportable and managed", config, "azurekv-key-exportable", "azurekv-key-managed")
	with(func(s *azurekvtest.Settings) { s.Operations = []string{"wrapKey"} })
	check("opens nothing", config, "azurekv-key-operations", "azurekv-unwrap-fails")
	fake.Set(keyName, good)

	other := config
	other.Algorithm = "RSA-OAEP-256"
	check("other algorithm", other, "azurekv-key-type", "azurekv-wrap-fails", "key-unauthenticated")
	fake.SetTimes(keyName, "", time.Time{}, time.Now().Add(10*24*time.Hour))
	check("expires", config, "azurekv-key-expires")
	fake.SetTimes(keyName, "", time.Time{}, time.Now().Add(-time.Hour))
	check("expired", config, "azurekv-key-disabled", "azurekv-wrap-fails")
	fake.SetTimes(keyName, "", time.Time{}, time.Time{})
	fake.SetEnabled(keyName, "", false)
	check("disabled", config, "azurekv-key-disabled", "azurekv-wrap-fails")
	fake.SetEnabled(keyName, "", true)

	ending := config
	endingCert, endingKey := fake.NewClientCertificate(t, time.Now().Add(10*24*time.Hour))
	ending.Auth = azurekv.Auth{ClientCertificate: &azurekv.ClientCertificate{
		TenantID: fake.TenantID, ClientID: fake.ClientID, CertFile: endingCert, KeyFile: credential.File(endingKey),
	}}
	check("ending certificate", ending, "azurekv-certificate-expires")

	fake.Delete(keyName)
	check("deleted", ending, "azurekv-key-deleted")
	fake.Purge(keyName)
	_, err := open(t, ending).Inspect(t.Context())
	wantKind(t, err, keyservice.NotFound, "was not found")
	fake.Vault.Set(testserver.Cut)
	_, err = open(t, ending).Inspect(t.Context())
	wantKind(t, err, keyservice.Unavailable, "")
}

// TestInspectRSA finds what a key of the standard tier has.
func TestInspectRSA(t *testing.T) {
	t.Parallel()
	_, config := fixture(t, rsa)
	want := []string{"azurekv-client-secret", "azurekv-key-software", "azurekv-rotation-unknown", "key-unauthenticated"}
	if got := inspect(t, config); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

package azurekv_test

import (
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// TestNewestIsTheNewestThatWraps makes five versions, of which the last three do not wrap.
func TestNewestIsTheNewestThatWraps(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, aes)
	key := open(t, config)
	first, _, err := key.Versions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := keyservice.VersionID(fake.Rotate(keyName))
	planned, expired, disabled := fake.Rotate(keyName), fake.Rotate(keyName), fake.Rotate(keyName)
	old := keyservicetest.Wrap(t, key, keyservice.VersionID(expired))
	soon := time.Now().Add(2 * time.Second).Truncate(time.Second)
	fake.SetTimes(keyName, planned, soon, time.Time{})
	fake.SetTimes(keyName, expired, time.Time{}, time.Now().Add(-time.Hour))
	fake.SetEnabled(keyName, disabled, false)

	newest, previous, err := key.Versions(t.Context())
	if err != nil || newest.ID != second || previous.ID != first.ID || newest.State != keyservice.StateEnabled {
		t.Fatalf("newest %v, previous %v, error %v", newest, previous, err)
	}
	if w := keyservicetest.Wrap(t, key, ""); w.Version != second {
		t.Errorf("wrapped by %q, want %q", w.Version, second)
	}
	for _, id := range []string{planned, expired, disabled} {
		_, err := key.Wrap(t.Context(), keyservice.VersionID(id), secret, nil)
		wantKind(t, err, keyservice.Disabled, id)
	}
	if _, err := key.Unwrap(t.Context(), old, nil); err != nil {
		t.Errorf("an expired version does not open: %v", err)
	}

	time.Sleep(time.Until(soon))
	newest, previous, err = key.Versions(t.Context())
	if err != nil || newest.ID != keyservice.VersionID(planned) || previous.ID != second {
		t.Errorf("after its nbf: newest %v, previous %v, error %v", newest, previous, err)
	}
}

// TestNoVersionWraps asks for versions where all are disabled.
func TestNoVersionWraps(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, rsa)
	fake.SetEnabled(keyName, "", false)
	key := open(t, config)
	newest, _, err := key.Versions(t.Context())
	if err != nil || newest.State != keyservice.StateDisabled {
		t.Errorf("newest %v, error %v", newest, err)
	}
	_, err = key.Wrap(t.Context(), "", secret, nil)
	wantKind(t, err, keyservice.Disabled, "is disabled")
}

// TestOtherAlgorithm uses an RSA key as if it were AES.
func TestOtherAlgorithm(t *testing.T) {
	t.Parallel()
	_, config := fixture(t, rsa)
	key := open(t, config)
	wrapped := keyservicetest.Wrap(t, key, "")
	config.Algorithm = "A256KW"
	other := open(t, config)
	_, err := other.Wrap(t.Context(), "", secret, nil)
	wantKind(t, err, keyservice.Invalid, "incompatible")
	_, err = other.Unwrap(t.Context(), wrapped, nil)
	wantKind(t, err, keyservice.Corrupt, "256 bytes")
}

package gcpkms_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms/gcpkmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

var quiet = slog.New(slog.DiscardHandler)

func config(fake *gcpkmstest.Fake) gcpkms.Config {
	return gcpkms.Config{
		Key: gcpkmstest.Key, Endpoint: fake.Endpoint, CredentialsFile: credential.File(fake.CredentialsFile),
	}
}

func open(t testing.TB, c gcpkms.Config, log *slog.Logger) *gcpkms.Key {
	t.Helper()
	return keyservicetest.Open(t, gcpkms.Open, c, log)
}

// start returns a fake and a key that uses it.
func start(t testing.TB) (*gcpkmstest.Fake, *gcpkms.Key) {
	t.Helper()
	fake := gcpkmstest.Start(t)
	return fake, open(t, config(fake), quiet)
}

var secret, aad = []byte(keyservicetest.Secret), []byte(keyservicetest.AAD)

// wantKind is keyservicetest.WantKind, and sees that the error shows no token.
func wantKind(t testing.TB, err error, kind keyservice.Kind, text string) {
	t.Helper()
	keyservicetest.WantKind(t, err, kind, text, gcpkmstest.TokenMark)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
		fake := gcpkmstest.Start(t)
		fails := func(code codes.Code) func(*testing.T) func() {
			return func(*testing.T) func() { return fake.Fail(status.Error(code, "to order")) }
		}
		state := func(state kmspb.CryptoKeyVersion_CryptoKeyVersionState) func(*testing.T) func() {
			return func(*testing.T) func() {
				fake.SetState(1, state)
				return func() { fake.SetState(1, kmspb.CryptoKeyVersion_ENABLED) }
			}
		}
		tokenServers := func(fault testserver.Fault) func(*testing.T) func() {
			return func(*testing.T) func() {
				fake.RevokeTokens()
				return fake.Logins.Set(fault)
			}
		}
		return keyservicetest.Harness{
			Open:   func(t *testing.T, log *slog.Logger) keyservice.Key { return open(t, config(fake), log) },
			Form:   gcpkms.Describe().Forms[0],
			Rotate: func(*testing.T) { fake.Rotate() },
			Recreate: func(*testing.T) {
				time.Sleep(1100 * time.Millisecond) // ids have creation times with a resolution of one second
				fake.Recreate()
			},
			Stall:   func(*testing.T) func() { return fake.Network.Set(testserver.Stall) },
			Secrets: []string{gcpkmstest.TokenMark, fake.PrivateKey()[40:80]},
			Faults: []keyservicetest.ServiceFault{
				{Name: "unavailable", Kind: keyservice.Unavailable, Break: fails(codes.Unavailable)},
				{Name: "internal error", Kind: keyservice.Unavailable, Break: fails(codes.Internal)},
				{Name: "too many calls", Kind: keyservice.Throttled, Break: fails(codes.ResourceExhausted)},
				{Name: "connections cut", Kind: keyservice.Unavailable, Break: func(*testing.T) func() { return fake.Network.Set(testserver.Cut) }},
				{Name: "role taken away", Kind: keyservice.Denied, Break: func(*testing.T) func() { return fake.Permit() }},
				{Name: "account disabled", Kind: keyservice.Denied, Break: func(*testing.T) func() {
					fake.RevokeTokens()
					return fake.RefuseLogins()
				}},
				{Name: "token servers away", Kind: keyservice.Unavailable, Break: tokenServers(testserver.Cut)},
				{Name: "token servers talk nonsense", Kind: keyservice.Unavailable, Break: tokenServers(testserver.Garble)},
				{Name: "version disabled", Kind: keyservice.Disabled, Break: state(kmspb.CryptoKeyVersion_DISABLED)},
				{Name: "destruction scheduled", Kind: keyservice.Disabled, Break: state(kmspb.CryptoKeyVersion_DESTROY_SCHEDULED)},
				{Name: "answers damaged", Kind: keyservice.Corrupt, Break: func(*testing.T) func() { return fake.Damage(flip) }},
				{Name: "version destroyed", Kind: keyservice.NotFound, Break: func(*testing.T) func() {
					fake.SetState(1, kmspb.CryptoKeyVersion_DESTROYED)
					return nil
				}},
			},
		}
	})
}

// flip changes a bit of what was encrypted or decrypted.
func flip(answer proto.Message) {
	switch a := answer.(type) {
	case *kmspb.EncryptResponse:
		a.Ciphertext[5] ^= 1
	case *kmspb.DecryptResponse:
		a.Plaintext[5] ^= 1
	}
}

// TestDamagedAnswers: an answer that says OK and is not what was asked for is never taken.
func TestDamagedAnswers(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	w := keyservicetest.Wrap(t, key, "")
	encrypted := func(change func(*kmspb.EncryptResponse)) func(proto.Message) {
		return func(m proto.Message) {
			if a, ok := m.(*kmspb.EncryptResponse); ok {
				change(a)
			}
		}
	}
	for name, damage := range map[string]func(proto.Message){
		"plaintext not verified":  encrypted(func(a *kmspb.EncryptResponse) { a.VerifiedPlaintextCrc32C = false }),
		"aad not verified":        encrypted(func(a *kmspb.EncryptResponse) { a.VerifiedAdditionalAuthenticatedDataCrc32C = false }),
		"no checksum":             encrypted(func(a *kmspb.EncryptResponse) { a.CiphertextCrc32C = nil }),
		"other checksum":          encrypted(func(a *kmspb.EncryptResponse) { a.CiphertextCrc32C.Value ^= 1 }),
		"no ciphertext":           encrypted(func(a *kmspb.EncryptResponse) { a.Ciphertext, a.CiphertextCrc32C.Value = nil, 0 }),
		"no name":                 encrypted(func(a *kmspb.EncryptResponse) { a.Name = "" }),
		"name of a key":           encrypted(func(a *kmspb.EncryptResponse) { a.Name = gcpkmstest.Key }),
		"name of another key":     encrypted(func(a *kmspb.EncryptResponse) { a.Name = strings.Replace(a.Name, "k8s", "other", 1) }),
		"name of another ring":    encrypted(func(a *kmspb.EncryptResponse) { a.Name = strings.Replace(a.Name, "clusters", "other", 1) }),
		"number of no version":    encrypted(func(a *kmspb.EncryptResponse) { a.Name = strings.TrimSuffix(a.Name, "1") + "-1" }),
		"ciphertext with flipped": flip,
	} {
		repair := fake.Damage(damage)
		_, err := key.Wrap(t.Context(), w.Version, secret, aad)
		wantKind(t, err, keyservice.Corrupt, "cannot be right")
		repair()
		t.Log(name, err)
	}
	for name, change := range map[string]func(*kmspb.DecryptResponse){
		"no checksum":    func(a *kmspb.DecryptResponse) { a.PlaintextCrc32C = nil },
		"other checksum": func(a *kmspb.DecryptResponse) { a.PlaintextCrc32C.Value ^= 1 },
		"no plaintext":   func(a *kmspb.DecryptResponse) { a.Plaintext, a.PlaintextCrc32C.Value = nil, 0 },
	} {
		repair := fake.Damage(func(m proto.Message) { change(m.(*kmspb.DecryptResponse)) })
		_, err := key.Unwrap(t.Context(), w, aad)
		wantKind(t, err, keyservice.Corrupt, "cannot be right")
		repair()
		t.Log(name, err)
	}
}

// TestOtherVersionThanAsked: the service says honestly that it used another version.
func TestOtherVersionThanAsked(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	first := keyservicetest.Wrap(t, key, "").Version
	fake.Rotate()
	fake.Damage(func(m proto.Message) {
		if a, ok := m.(*kmspb.EncryptResponse); ok {
			a.Name = gcpkmstest.Key + "/cryptoKeyVersions/2"
		}
	})
	_, err := key.Wrap(t.Context(), first, secret, aad)
	wantKind(t, err, keyservice.Corrupt, "was asked for")
}

// TestProjectNumber: the service names projects by id, whatever it was asked with.
func TestProjectNumber(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	fake.Damage(func(m proto.Message) {
		switch a := m.(type) {
		case *kmspb.EncryptResponse:
			a.Name = strings.Replace(a.Name, "trousseau-test", "123456789", 1)
		case *kmspb.CryptoKeyVersion:
			a.Name = strings.Replace(a.Name, "trousseau-test", "123456789", 1)
		}
	})
	keyservicetest.RoundTrip(t, key)
}

func TestQuotaProject(t *testing.T) {
	t.Parallel()
	fake := gcpkmstest.Start(t)
	c := config(fake)
	keyservicetest.RoundTrip(t, open(t, c, quiet))
	if got := fake.QuotaProject(); got != "" {
		t.Errorf("none is configured, %q was sent", got)
	}
	c.QuotaProject = "billing-1"
	keyservicetest.RoundTrip(t, open(t, c, quiet))
	if got := fake.QuotaProject(); got != "billing-1" {
		t.Errorf("the service got %q", got)
	}
}

//go:build cgo

package pkcs11_test

import (
	"slices"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11"
	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11/pkcs11test"
)

// inspect returns the rules that were found, sorted, without the one that every key in SoftHSM has.
func inspect(t *testing.T, c pkcs11.Config) []string {
	t.Helper()
	key := open(t, c)
	defer key.Close()
	found := keyservicetest.Inspect(t, key)
	for _, f := range found {
		if f.Where != c.ID() {
			t.Errorf("%+v is not about %s", f, c.ID())
		}
	}
	rules := keyservicetest.Rules(found, "pkcs11-software")
	if len(rules) == len(found) {
		t.Error("SoftHSM passes for hardware")
	}
	return rules
}

func TestInspect(t *testing.T) {
	aes := []string{"--keygen", "--key-type", "AES:32", "--label", "kek-1"}
	for name, test := range map[string]struct {
		prepare func(*pkcs11test.Token, *pkcs11.Config)
		want    []string
	}{
		"good key": {func(k *pkcs11test.Token, _ *pkcs11.Config) { k.GenerateAES("kek-1") }, nil},
		"pkcs11-tool without flags": {
			func(k *pkcs11test.Token, _ *pkcs11.Config) { k.Tool(aes...) }, []string{"pkcs11-key-public"},
		},
		"extractable": {func(k *pkcs11test.Token, _ *pkcs11.Config) {
			k.Tool(append(aes, "--private", "--sensitive", "--extractable")...)
		}, []string{"pkcs11-key-extractable"}},
		"readable": {func(k *pkcs11test.Token, _ *pkcs11.Config) {
			k.Tool(append(aes, "--private", "--extractable")...)
		}, []string{"pkcs11-key-readable"}},
		"imported": {func(k *pkcs11test.Token, _ *pkcs11.Config) { imported(t, k, "kek-1") }, []string{"pkcs11-key-imported"}},
		"one key": {func(k *pkcs11test.Token, c *pkcs11.Config) {
			k.GenerateAES("kek")
			c.Label = "kek"
		}, []string{"pkcs11-no-rotation"}},
		"ends": {func(k *pkcs11test.Token, _ *pkcs11.Config) {
			k.Tool(aes...) // SoftHSM does not show the dates of private keys
			set(t, k, "kek-1", p11.NewAttribute(p11.CKA_END_DATE, time.Now().Add(10*24*time.Hour)))
		}, []string{"pkcs11-key-ends", "pkcs11-key-public"}},
		"ends later": {func(k *pkcs11test.Token, _ *pkcs11.Config) {
			k.Tool(aes...)
			set(t, k, "kek-1", p11.NewAttribute(p11.CKA_END_DATE, time.Now().Add(100*24*time.Hour)))
		}, []string{"pkcs11-key-public"}},
		"open only": {func(k *pkcs11test.Token, _ *pkcs11.Config) {
			k.GenerateAES("kek-1")
			set(t, k, "kek-1", p11.NewAttribute(p11.CKA_ENCRYPT, false))
		}, []string{"pkcs11-key-open-only", "pkcs11-wrap-fails"}},
		"disabled": {func(k *pkcs11test.Token, _ *pkcs11.Config) {
			k.GenerateAES("kek-1")
			set(t, k, "kek-1", p11.NewAttribute(p11.CKA_DECRYPT, false))
		}, []string{"pkcs11-key-disabled", "pkcs11-wrap-fails"}},
		"RSA without SHA-256": {func(k *pkcs11test.Token, c *pkcs11.Config) {
			k.GenerateRSA("kek-1")
			c.Mechanism = "rsa-oaep"
		}, []string{"key-unauthenticated", "pkcs11-key-weak", "pkcs11-wrap-fails"}},
	} {
		token := token(t)
		c := config(token, module)
		test.prepare(token, &c)
		if got := inspect(t, c); !slices.Equal(got, test.want) {
			t.Errorf("%s: found %q, want %q", name, got, test.want)
		}
	}
}

// imported makes a key whose value came from outside.
func imported(t *testing.T, token *pkcs11test.Token, label string) {
	outside(t, token, func(library *p11.Ctx, session p11.SessionHandle) {
		if _, err := library.CreateObject(session, []*p11.Attribute{
			p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
			p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SENSITIVE, true),
			p11.NewAttribute(p11.CKA_EXTRACTABLE, false), p11.NewAttribute(p11.CKA_ENCRYPT, true),
			p11.NewAttribute(p11.CKA_DECRYPT, true), p11.NewAttribute(p11.CKA_LABEL, label),
			p11.NewAttribute(p11.CKA_VALUE, make([]byte, 32)),
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestInspectToken lets somebody try a wrong PIN while the daemon is logged in.
func TestInspectToken(t *testing.T) {
	token := token(t)
	token.GenerateAES("kek-1")
	key := open(t, config(token, module))
	keyservicetest.Wrap(t, key, "")
	token.TryPIN("a wrong PIN")
	if f := keyservicetest.Find(t, key, "pkcs11-pin-tries"); f.Fix == "" {
		t.Errorf("found %+v", f)
	}
	token.TakeAway()
	_, err := key.Inspect(t.Context())
	keyservicetest.CheckKind(t, "inspecting while the token is away", err, keyservice.Unavailable, "no such token")
}

//go:build cgo

package pkcs11_test

import (
	"log/slog"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11"
	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11/pkcs11test"
)

const module = pkcs11test.Module

// token starts a token that modules in this process see.
func token(t *testing.T) *pkcs11test.Token {
	t.Helper()
	token := pkcs11test.Start(t)
	t.Setenv("SOFTHSM2_CONF", token.Conf)
	return token
}

func config(token *pkcs11test.Token, path string) pkcs11.Config {
	return pkcs11.Config{
		Module: path, Token: token.Label, PINFile: credential.File(token.PINFile), Label: "kek-*", Mechanism: "aes-gcm",
	}
}

func open(t testing.TB, c pkcs11.Config) *pkcs11.Key {
	t.Helper()
	return keyservicetest.Open(t, pkcs11.Open, c, nil)
}

var secret, aad = []byte(keyservicetest.Secret), []byte(keyservicetest.AAD)

// outside calls f with SoftHSM itself, as somebody else in this process might use it, and a session whose user is logged in.
func outside(t testing.TB, token *pkcs11test.Token, f func(library *p11.Ctx, session p11.SessionHandle)) {
	t.Helper()
	library := p11.New(module)
	if err := library.Initialize(); err != nil && err != p11.Error(p11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		t.Fatal(err)
	}
	slots, err := library.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	session, err := library.OpenSession(slots[0], p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := library.Login(session, p11.CKU_USER, token.PIN); err != nil && err != p11.Error(p11.CKR_USER_ALREADY_LOGGED_IN) {
		t.Fatal(err)
	}
	f(library, session)
	library.CloseSession(session)
}

// finalize ends the library under the keys that use it: an HSM that has restarted forgets as much.
func finalize(t testing.TB, token *pkcs11test.Token) {
	t.Helper()
	outside(t, token, func(library *p11.Ctx, _ p11.SessionHandle) {
		if err := library.Finalize(); err != nil {
			t.Fatal(err)
		}
	})
}

// set changes attributes of each secret and private key with a label.
func set(t testing.TB, token *pkcs11test.Token, label string, attributes ...*p11.Attribute) {
	t.Helper()
	outside(t, token, func(library *p11.Ctx, session p11.SessionHandle) {
		if err := library.FindObjectsInit(session, []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, label)}); err != nil {
			t.Fatal(err)
		}
		objects, _, err := library.FindObjects(session, 10)
		if err != nil || len(objects) == 0 {
			t.Fatalf("%d objects are called %s, error %v", len(objects), label, err)
		}
		library.FindObjectsFinal(session)
		for _, object := range objects {
			for _, a := range attributes { // one at a time: the public key of a pair has some, the private one others
				err := library.SetAttributeValue(session, object, []*p11.Attribute{a})
				if err != nil && err != p11.Error(p11.CKR_ATTRIBUTE_TYPE_INVALID) {
					t.Fatal(err)
				}
			}
		}
	})
}

// mode is a way to run the suite.
type mode struct {
	name      string
	mechanism string
	hsmIV     bool
	stood     bool // through the module with faults
	form      keyservice.Form
	generate  func(*pkcs11test.Token, string)
	types     []string // of the objects that make a key
}

func modes() []mode {
	forms := pkcs11.Describe().Forms
	aes, secretKey := (*pkcs11test.Token).GenerateAES, []string{"secrkey"}
	return []mode{
		{"SoftHSM/aes-gcm", "aes-gcm", false, false, forms[0], aes, secretKey},
		{"SoftHSM/aes-key-wrap-pad", "aes-key-wrap-pad", false, false, forms[1], aes, secretKey},
		{"faults/aes-gcm with the HSM's vectors", "aes-gcm", true, true, forms[0], aes, secretKey},
		{"faults/aes-key-wrap-kwp", "aes-key-wrap-kwp", false, true, forms[1], aes, secretKey},
		{"faults/rsa-oaep", "rsa-oaep", false, true, forms[2], (*pkcs11test.Token).GenerateRSA, []string{"privkey", "pubkey"}},
	}
}

func TestConformance(t *testing.T) {
	for _, m := range modes() {
		t.Run(m.name, func(t *testing.T) {
			path := module
			var f *faults
			if m.stood {
				f = buildFaults(t)
				path = f.module
			}
			if m.hsmIV {
				f.order("hsm-iv", 0)
			}
			keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness { return harness(t, m, path, f) })
		})
	}
}

func harness(t *testing.T, m mode, path string, f *faults) keyservicetest.Harness {
	token := token(t)
	m.generate(token, "kek-1")
	c := config(token, path)
	c.Mechanism, c.HSMIV = m.mechanism, m.hsmIV
	h := keyservicetest.Harness{
		Open: func(t *testing.T, log *slog.Logger) keyservice.Key {
			return keyservicetest.Open(t, pkcs11.Open, c, log)
		},
		Form:   m.form,
		Rotate: func(*testing.T) { m.generate(token, "kek-2") },
		Recreate: func(*testing.T) {
			token.Delete("kek-1", m.types...)
			m.generate(token, "kek-1")
		},
		Secrets: []string{token.PIN, "a wrong PIN"},
		Faults: []keyservicetest.ServiceFault{
			{Name: "token away", Kind: keyservice.Unavailable, Break: func(*testing.T) func() { return token.TakeAway() }},
			{Name: "HSM restarted, PIN wrong", Kind: keyservice.Denied, Break: func(t *testing.T) func() {
				token.WritePIN("a wrong PIN")
				finalize(t, token)
				return func() { token.WritePIN(token.PIN) }
			}},
			{Name: "key switched off", Kind: keyservice.Disabled, Break: func(t *testing.T) func() {
				allow := func(yes bool) {
					attributes := []*p11.Attribute{p11.NewAttribute(p11.CKA_ENCRYPT, yes), p11.NewAttribute(p11.CKA_DECRYPT, yes)}
					if m.mechanism != "aes-gcm" && m.mechanism != "rsa-oaep" {
						attributes = []*p11.Attribute{p11.NewAttribute(p11.CKA_WRAP, yes), p11.NewAttribute(p11.CKA_UNWRAP, yes)}
					}
					set(t, token, "kek-1", attributes...)
				}
				allow(false)
				return func() { allow(true) }
			}},
			{Name: "key deleted", Kind: keyservice.NotFound, Break: func(*testing.T) func() {
				token.Delete("kek-1", m.types...)
				return nil
			}},
		},
	}
	if f != nil {
		h.Stall = func(*testing.T) func() { return f.order("stall", 0) }
	}
	return h
}

func TestKeysShareAModule(t *testing.T) {
	token := token(t)
	token.GenerateAES("kek-1")
	token.GenerateAES("other-1")
	first := config(token, module)
	second := first
	second.Label = "other-*"
	a, b := open(t, first), open(t, second)
	gone := first
	gone.Token = "gone"
	c := open(t, gone)
	keyservicetest.Wrap(t, a, "")
	var calls sync.WaitGroup
	calls.Go(func() { // its token is away, and it has the module started anew under the others
		for range 20 {
			_, err := c.Wrap(t.Context(), "", secret, aad)
			keyservicetest.CheckKind(t, "token away", err, keyservice.Unavailable, "no such token")
		}
	})
	for _, key := range []keyservice.Key{a, b} {
		for range 4 {
			calls.Go(func() {
				for range 10 {
					keyservicetest.RoundTrip(t, key)
				}
			})
		}
	}
	calls.Wait()
	if _, err := b.Unwrap(t.Context(), keyservicetest.Wrap(t, a, ""), aad); keyservice.KindOf(err) != keyservice.NotFound {
		t.Errorf("one key opens what another wrapped: %v", err)
	}
	a.Close()
	keyservicetest.RoundTrip(t, b) // closing one ends neither the library nor the log in of the other
	b.Close()
	keyservicetest.Unwrap(t, open(t, first), keyservicetest.Wrap(t, open(t, first), ""))
}

// TestRecovers makes the token forget in each way that can be had, and expects that the next call works.
func TestRecovers(t *testing.T) {
	token := token(t)
	token.GenerateAES("kek-1")
	key := open(t, config(token, module))
	w := keyservicetest.Wrap(t, key, "")
	for name, disturb := range map[string]func(){
		"library ended": func() { finalize(t, token) },
		"sessions closed": func() {
			outside(t, token, func(library *p11.Ctx, _ p11.SessionHandle) {
				slots, _ := library.GetSlotList(true)
				if err := library.CloseAllSessions(slots[0]); err != nil {
					t.Fatal(err)
				}
			})
		},
		"user logged out": func() {
			outside(t, token, func(library *p11.Ctx, session p11.SessionHandle) {
				if err := library.Logout(session); err != nil {
					t.Fatal(err)
				}
			})
		},
		"token away and back": func() { token.TakeAway()() },
	} {
		disturb()
		keyservicetest.Unwrap(t, key, w)
		disturb()
		if keyservicetest.Wrap(t, key, "").Version != w.Version {
			t.Errorf("%s: another version", name)
		}
	}
}

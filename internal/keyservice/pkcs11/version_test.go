//go:build cgo

package pkcs11_test

import (
	"fmt"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11"
)

// TestVersionsAreOrderedByLabel makes keys in an order that is neither that of their labels nor that of the alphabet.
func TestVersionsAreOrderedByLabel(t *testing.T) {
	for pattern, labels := range map[string][]string{ // oldest first
		"kek-*":    {"kek-9", "kek-10", "kek-0100", "kek-10000000000000000000000"},
		"*.kek":    {"2026-04-01.kek", "2026-10-01.kek", "2026-10-01b.kek", "2027.kek"},
		"kek*":     {"kek7", "kek07", "kekx", "kekx1"},
		"k8s-*-eu": {"k8s-1-eu", "k8s-2-eu"},
	} {
		token := token(t)
		c := config(token, module)
		c.Label = pattern
		key := open(t, c)
		token.GenerateAES("kek")     // no text in the place of *
		token.GenerateAES("KEK-99")  // another label
		token.GenerateAES("k8s--eu") // nothing in the place of *
		var want, before keyservice.VersionID
		for _, label := range []string{labels[1], labels[0]} {
			token.GenerateAES(label)
		}
		want, before = ids(t, c, labels[1]), ids(t, c, labels[0])
		newest, previous := keyservicetest.Versions(t, key)
		if newest.ID != want || previous.ID != before {
			t.Errorf("%s: newest is %s, previous %s, want %s (%s) and %s (%s)", pattern, newest.ID, previous.ID,
				want, labels[1], before, labels[0])
		}
		for _, label := range labels[2:] {
			token.GenerateAES(label)
			was := newest
			newest, previous = keyservicetest.Versions(t, key)
			if newest.ID != ids(t, c, label) || previous.ID != was.ID {
				t.Errorf("%s: %s is not the newest", pattern, label)
			}
		}
		key.Close()
	}
}

// ids returns the version id of the key with exactly this label.
func ids(t *testing.T, c pkcs11.Config, label string) keyservice.VersionID {
	t.Helper()
	c.Label = label
	key := open(t, c)
	defer key.Close()
	newest, _ := keyservicetest.Versions(t, key)
	return newest.ID
}

func TestKeyByID(t *testing.T) {
	token := token(t)
	token.GenerateAES("kek-1")
	c := config(token, module)
	want := ids(t, c, "kek-1")
	c.Label, c.KeyID = "", fmt.Sprintf("%X", "kek-1")
	key := open(t, c)
	if newest, previous := keyservicetest.Versions(t, key); newest.ID != want || previous.ID != "" {
		t.Errorf("newest %v, previous %v, want %s alone", newest, previous, want)
	}
	keyservicetest.RoundTrip(t, key)
}

// TestVersionSurvivesItsName renames a key: the version is of the material.
func TestVersionSurvivesItsName(t *testing.T) {
	token := token(t)
	token.GenerateAES("kek-1")
	key := open(t, config(token, module))
	w := keyservicetest.Wrap(t, key, "")
	set(t, token, "kek-1", p11.NewAttribute(p11.CKA_LABEL, "kek-2"), p11.NewAttribute(p11.CKA_ID, []byte{7}))
	if newest, _ := keyservicetest.Versions(t, key); newest.ID != w.Version {
		t.Errorf("the version was %s and is %s", w.Version, newest.ID)
	}
	keyservicetest.Unwrap(t, key, w)
}

func TestStatesAndDates(t *testing.T) {
	token := token(t)
	token.Tool("--keygen", "--key-type", "AES:32", "--label", "kek-1") // SoftHSM does not show the dates of private keys
	token.GenerateAES("kek-2")
	key := open(t, config(token, module))
	second := keyservicetest.Wrap(t, key, "")
	set(t, token, "kek-2", p11.NewAttribute(p11.CKA_ENCRYPT, false))
	set(t, token, "kek-1", p11.NewAttribute(p11.CKA_START_DATE, []byte("20260401")))
	newest, previous := keyservicetest.Versions(t, key)
	if newest.State != keyservice.StateOpenOnly || !newest.Created.IsZero() {
		t.Errorf("newest is %v, want one that opens only and has no date", newest)
	}
	if previous.State != keyservice.StateEnabled || !previous.Created.Equal(time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("previous is %v, want an enabled one of 2026-04-01", previous)
	}
	keyservicetest.Unwrap(t, key, second)
	_, err := key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "wrapping with the newest", err, keyservice.Disabled, "CKR_KEY_FUNCTION_NOT_PERMITTED")
	first := keyservicetest.Wrap(t, key, previous.ID)

	set(t, token, "kek-2", p11.NewAttribute(p11.CKA_ENCRYPT, true))
	set(t, token, "kek-1", p11.NewAttribute(p11.CKA_DECRYPT, false))
	if newest, previous = keyservicetest.Versions(t, key); newest.State != keyservice.StateEnabled || previous.ID != "" {
		t.Errorf("newest is %v, previous %v, want an enabled one and none that can tell what it is", newest, previous)
	}
	restarted := open(t, config(token, module)) // which does not remember which key is which
	_, err = restarted.Unwrap(t.Context(), first, aad)
	keyservicetest.CheckKind(t, "unwrapping", err, keyservice.Disabled, `"kek-1"`)
	set(t, token, "kek-1", p11.NewAttribute(p11.CKA_DECRYPT, true))
	keyservicetest.Unwrap(t, restarted, first)
}

func TestAmbiguous(t *testing.T) {
	token := token(t)
	token.GenerateAES("kek-1")
	token.GenerateAES("kek-1")
	c := config(token, module)
	_, err := open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "two keys with one label", err, keyservice.Invalid, `"kek-1"`)
	c.Token = "k9s"
	_, err = open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "no such token", err, keyservice.Unavailable, "no such token")
	token.AddToken()
	finalize(t, token)
	_, err = open(t, config(token, module)).Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "two tokens with one label", err, keyservice.Invalid, "more than one token")
}

func TestTokenBySerial(t *testing.T) {
	token := token(t)
	token.GenerateAES("kek-1")
	var serial string
	outside(t, token, func(library *p11.Ctx, session p11.SessionHandle) {
		info, err := library.GetSessionInfo(session)
		if err != nil {
			t.Fatal(err)
		}
		token, err := library.GetTokenInfo(info.SlotID)
		if err != nil {
			t.Fatal(err)
		}
		serial = token.SerialNumber
	})
	token.AddToken() // with the same label
	finalize(t, token)
	c := config(token, module)
	c.Token, c.Serial = "", serial
	key := open(t, c)
	keyservicetest.RoundTrip(t, key)
}

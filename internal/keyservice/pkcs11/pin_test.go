//go:build cgo

package pkcs11_test

import (
	"os"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// TestWrongPIN counts how often a token is offered a PIN that it refuses: once, by all keys of the process together.
func TestWrongPIN(t *testing.T) {
	token, f := token(t), buildFaults(t)
	token.GenerateAES("kek-1")
	token.WritePIN("a wrong PIN")
	c := config(token, f.module)
	key, reloaded := open(t, c), open(t, c)
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			_, err := key.Wrap(t.Context(), "", secret, aad)
			keyservicetest.CheckKind(t, "wrapping", err, keyservice.Denied, "PIN")
		})
	}
	calls.Wait()
	key.Close()
	_, err := reloaded.Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "another key", err, keyservice.Denied, "refused this PIN before")
	if n := f.calls("C_Login"); n != 1 {
		t.Errorf("the wrong PIN was tried %d times", n)
	}
	token.WritePIN("another wrong PIN")
	_, err = reloaded.Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "another wrong PIN", err, keyservice.Denied, "CKR_PIN_INCORRECT")
	token.WritePIN(token.PIN)
	keyservicetest.RoundTrip(t, reloaded)
	if n := f.calls("C_Login"); n != 3 {
		t.Errorf("three PINs were tried %d times", n)
	}
}

func TestLastTryIsLeftToOthers(t *testing.T) {
	token, f := token(t), buildFaults(t)
	token.GenerateAES("kek-1")
	repair := f.order("final-try", 0)
	key := open(t, config(token, f.module))
	_, err := key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "final try", err, keyservice.Denied, "locks after one more")
	repair()
	repair = f.order("C_Login", p11.CKR_PIN_LOCKED)
	_, err = key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "locked", err, keyservice.Denied, "CKR_PIN_LOCKED")
	repair()
	keyservicetest.RoundTrip(t, key) // unlocked by the security officer, the PIN as before
}

func TestPINFile(t *testing.T) {
	token := token(t)
	token.GenerateAES("kek-1")
	key := open(t, config(token, module))
	if err := os.Chmod(token.PINFile, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "PIN that others can read", err, keyservice.Denied, "chmod 0600")
	os.Remove(token.PINFile)
	_, err = key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.CheckKind(t, "no PIN", err, keyservice.Denied, "no such file")
	token.WritePIN(token.PIN)
	w := keyservicetest.Wrap(t, key, "")
	os.Remove(token.PINFile)
	keyservicetest.Unwrap(t, key, w) // logged in, it needs no PIN
}

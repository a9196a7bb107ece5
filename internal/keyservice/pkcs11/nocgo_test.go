//go:build !cgo

package pkcs11_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11"
)

func TestNotCompiledIn(t *testing.T) {
	c := pkcs11.Config{Module: "/m.so", Token: "k8s", PINFile: "/p", Label: "kek", Mechanism: "aes-gcm"}
	key, err := pkcs11.Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if key != nil || err == nil || keyservice.KindOf(err) != keyservice.Invalid {
		t.Fatalf("got the key %v and the error %v", key, err)
	}
	if !strings.Contains(err.Error(), "not compiled into") || !strings.Contains(keyservice.HintOf(err), "make build-pkcs11") {
		t.Errorf("%v (hint: %s)", err, keyservice.HintOf(err))
	}
}

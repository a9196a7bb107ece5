//go:build !cgo

package pkcs11

import (
	"context"
	"errors"
	"log/slog"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Key is never made by a program that was built without cgo.
type Key struct{ keyservice.Key }

// Open fails as Invalid: a module is a C library, which only a program that was built with cgo can load.
func Open(_ context.Context, config Config, _ *slog.Logger) (*Key, error) {
	if _, err := config.check(); err != nil {
		return nil, err
	}
	return nil, &keyservice.Error{
		Kind: keyservice.Invalid, Op: "opening " + config.ID(),
		Err:  errors.New("PKCS#11 is not compiled into this program, which was built without cgo"),
		Hint: "use the programs that `make build-pkcs11` builds",
	}
}

package keyservicetest_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

func TestFake(t *testing.T) {
	keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
		shared := keyservicetest.NewFake(time.Now())
		h := keyservicetest.Harness{
			Open:     func(*testing.T, *slog.Logger) keyservice.Key { return &handle{Fake: shared} },
			Form:     keyservice.Form{Algorithm: "fake", AAD: true, Version: 12, Wrapped: 60},
			Rotate:   func(*testing.T) { shared.Rotate(time.Now()) },
			Recreate: func(*testing.T) { shared.Recreate(time.Now()) },
			Stall: func(*testing.T) func() {
				shared.Break(keyservicetest.Fault{Stall: time.Minute})
				return func() { shared.Break(keyservicetest.Fault{}) }
			},
		}
		for _, kind := range keyservice.Kinds() {
			h.Faults = append(h.Faults, keyservicetest.ServiceFault{Name: kind.String(), Kind: kind, Break: func(*testing.T) func() {
				shared.Break(keyservicetest.Fault{Err: &keyservice.Error{Kind: kind, Op: "asking", Hint: "repair it"}})
				return func() { shared.Break(keyservicetest.Fault{}) }
			}})
		}
		return h
	})
}

// handle is one client of a shared fake: closing it does not close the service.
type handle struct {
	*keyservicetest.Fake
}

package upstream_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/kms/pkg/service"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream/upstreamtest"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	seed  = []byte(keyservicetest.Secret)
)

func open(t *testing.T, socket string, log *slog.Logger) *upstream.Key {
	t.Helper()
	return keyservicetest.Open(t, upstream.Open, upstream.Config{Socket: socket}, log)
}

func TestConformance(t *testing.T) {
	keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
		plugin := upstreamtest.Start(t)
		h := keyservicetest.Harness{
			Open: func(t *testing.T, log *slog.Logger) keyservice.Key { return open(t, plugin.Socket, log) },
			// 8 bytes around key id, annotation (with 3 bytes around it) and ciphertext.
			Form:         keyservice.Form{Algorithm: "AES-256-GCM", Version: 22, Wrapped: 8 + 34 + 3 + 21 + 1 + 60},
			CannotChoose: true,
			Rotate:       func(*testing.T) { plugin.Rotate() },
			Recreate:     func(*testing.T) { plugin.Recreate() },
			Stall:        func(*testing.T) func() { return plugin.Behave(upstreamtest.Behaviour{Stall: true}) },
			Faults: []keyservicetest.ServiceFault{
				{Name: "stopped", Kind: keyservice.Unavailable, Break: func(*testing.T) func() { plugin.Stop(); return plugin.Start }},
				{Name: "disabled", Kind: keyservice.Disabled, Break: func(*testing.T) func() { return plugin.Disable() }},
			},
		}
		for code, kind := range kindOf {
			h.Faults = append(h.Faults, keyservicetest.ServiceFault{Name: code.String(), Kind: kind, Break: func(*testing.T) func() {
				return plugin.Behave(upstreamtest.Behaviour{Err: status.Error(code, "as ordered")})
			}})
		}
		return h
	})
}

// kindOf is what each gRPC code means, whatever the call was; InvalidArgument is told apart below.
var kindOf = map[codes.Code]keyservice.Kind{
	codes.Unavailable:        keyservice.Unavailable,
	codes.DeadlineExceeded:   keyservice.Unavailable,
	codes.Canceled:           keyservice.Unavailable,
	codes.Aborted:            keyservice.Unavailable,
	codes.Unknown:            keyservice.Unavailable,
	codes.Internal:           keyservice.Unavailable,
	codes.AlreadyExists:      keyservice.Unavailable, // no plugin has a reason to say so
	codes.OutOfRange:         keyservice.Unavailable,
	codes.ResourceExhausted:  keyservice.Throttled,
	codes.PermissionDenied:   keyservice.Denied,
	codes.Unauthenticated:    keyservice.Denied,
	codes.NotFound:           keyservice.NotFound,
	codes.FailedPrecondition: keyservice.Disabled,
	codes.DataLoss:           keyservice.Corrupt,
	codes.Unimplemented:      keyservice.Invalid,
}

func TestInvalidArgument(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	wrapped := keyservicetest.Wrap(t, key, "")
	plugin.Behave(upstreamtest.Behaviour{Err: status.Error(codes.InvalidArgument, "as ordered")})
	_, err := key.Wrap(t.Context(), "", seed, nil)
	keyservicetest.CheckKind(t, "wrapping", err, keyservice.Invalid, `gRPC code InvalidArgument: "as ordered"`)
	_, err = key.Unwrap(t.Context(), wrapped, nil)
	keyservicetest.CheckKind(t, "unwrapping", err, keyservice.Corrupt, `gRPC code InvalidArgument: "as ordered"`)
}

func TestStatusDecides(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	wrapped := keyservicetest.Wrap(t, key, "")
	for name, c := range map[string]struct {
		change func(*service.StatusResponse)
		kind   keyservice.Kind
		text   string
	}{
		"not well":        {func(s *service.StatusResponse) { s.Healthz = "the HSM is \n away" }, keyservice.Unavailable, `"the HSM is \n away"`},
		"no healthz":      {func(s *service.StatusResponse) { s.Healthz = "" }, keyservice.Unavailable, `""`},
		"other version":   {func(s *service.StatusResponse) { s.Version = "v1beta1" }, keyservice.Invalid, `"v1beta1"`},
		"no version":      {func(s *service.StatusResponse) { s.Version = "" }, keyservice.Invalid, `""`},
		"no key id":       {func(s *service.StatusResponse) { s.KeyID = "" }, keyservice.Corrupt, "0 bytes"},
		"key id too long": {func(s *service.StatusResponse) { s.KeyID = strings.Repeat("x", 1025) }, keyservice.Corrupt, "1025 bytes"},
	} {
		plugin.Behave(upstreamtest.Behaviour{Status: c.change})
		_, _, err := key.Versions(t.Context())
		keyservicetest.CheckKind(t, name, err, c.kind, c.text)
		_, err = key.Wrap(t.Context(), "", seed, nil)
		keyservicetest.CheckKind(t, name, err, c.kind, c.text)
		keyservicetest.Unwrap(t, key, wrapped)
	}
	plugin.Behave(upstreamtest.Behaviour{Status: func(s *service.StatusResponse) { s.Version = "v2beta1" }})
	keyservicetest.RoundTrip(t, key)
}

func TestAnswersBeyondLimitsAreCorrupt(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	annotations := func(n int) map[string][]byte { return map[string][]byte{"a.b": make([]byte, n)} }
	for name, c := range map[string]struct {
		change  func(*service.EncryptResponse)
		refused string // or "" if it is within the limits
	}{
		"longest key id":         {func(e *service.EncryptResponse) { e.KeyID = strings.Repeat("\xc3\xbc", 512) }, ""},
		"key id too long":        {func(e *service.EncryptResponse) { e.KeyID = strings.Repeat("x", 1025) }, "key id has 1025 bytes"},
		"no key id":              {func(e *service.EncryptResponse) { e.KeyID = "" }, "key id has 0 bytes"},
		"longest ciphertext":     {func(e *service.EncryptResponse) { e.Ciphertext = make([]byte, 1024) }, ""},
		"ciphertext too long":    {func(e *service.EncryptResponse) { e.Ciphertext = make([]byte, 1025) }, "ciphertext has 1025 bytes"},
		"no ciphertext":          {func(e *service.EncryptResponse) { e.Ciphertext = nil }, "ciphertext has 0 bytes"},
		"no annotations":         {func(e *service.EncryptResponse) { e.Annotations = nil }, ""},
		"largest annotations":    {func(e *service.EncryptResponse) { e.Annotations = annotations(32<<10 - 3) }, ""},
		"annotations too large":  {func(e *service.EncryptResponse) { e.Annotations = annotations(32<<10 - 2) }, "annotations have 32769 bytes"},
		"annotation not a name":  {func(e *service.EncryptResponse) { e.Annotations = map[string][]byte{"version": nil} }, `"version"`},
		"annotation not a host":  {func(e *service.EncryptResponse) { e.Annotations = map[string][]byte{"a b.c": nil} }, `"a b.c"`},
		"annotation with no key": {func(e *service.EncryptResponse) { e.Annotations = map[string][]byte{"": nil} }, `""`},
	} {
		plugin.Behave(upstreamtest.Behaviour{Answer: c.change})
		_, err := key.Wrap(t.Context(), "", seed, nil)
		if c.refused == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.refused != "" {
			keyservicetest.CheckKind(t, name, err, keyservice.Corrupt, c.refused)
		}
	}
}

func TestPlaintextsBeyondLimitsAreCorrupt(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	wrapped := keyservicetest.Wrap(t, key, "")
	for _, n := range []int{0, keyservice.MaxSecretSize + 1} {
		plugin.Behave(upstreamtest.Behaviour{Secret: func([]byte) []byte { return make([]byte, n) }})
		_, err := key.Unwrap(t.Context(), wrapped, nil)
		keyservicetest.CheckKind(t, "unwrapping", err, keyservice.Corrupt, "the plaintext has")
	}
}

func TestVersionIsWhatEncryptAnswers(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	plugin.Behave(upstreamtest.Behaviour{Status: func(s *service.StatusResponse) { s.KeyID = "announced and never used" }})
	announced := keyservicetest.Newest(t, key)
	wrapped := keyservicetest.Wrap(t, key, "")
	plugin.Behave(upstreamtest.Behaviour{})
	if used := keyservicetest.Newest(t, key); wrapped.Version != used || wrapped.Version == announced {
		t.Errorf("announced %q, encrypted under %q, the version is %q", announced, used, wrapped.Version)
	}
	keyservicetest.Unwrap(t, key, wrapped)
}

func TestVersionsRememberThePreviousOne(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	first := keyservicetest.Newest(t, key)
	plugin.Rotate()
	for range 2 {
		second, previous, err := key.Versions(t.Context())
		if err != nil || second.ID == first || previous.ID != first || previous.State != keyservice.StateOpenOnly {
			t.Errorf("newest %v, previous %v, want %q; %v", second, previous, first, err)
		}
		if !second.Created.IsZero() || !previous.Created.IsZero() {
			t.Error("KMS v2 does not tell when a version was made")
		}
	}
}

func TestErrorsHoldNothingThatWasSent(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	wrapped := keyservicetest.Wrap(t, key, "")
	plugin.Behave(upstreamtest.Behaviour{Echo: true})
	_, err := key.Unwrap(t.Context(), wrapped, nil)
	keyservicetest.CheckKind(t, "unwrapping", err, keyservice.Unavailable, `"no good: redacted, redacted"`)
	plugin.Behave(upstreamtest.Behaviour{Err: errors.New(strings.Repeat("long ", 100))})
	_, err = key.Unwrap(t.Context(), wrapped, nil)
	if n := len(err.Error()); n > 400 {
		t.Errorf("the error has %d bytes", n)
	}
}

func TestPluginThatRestartsIsUsedAgain(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	wrapped := keyservicetest.Wrap(t, key, "")
	before := runtime.NumGoroutine()
	for range 20 {
		plugin.Stop()
		_, err := key.Unwrap(t.Context(), wrapped, nil) // the connection may break first
		keyservicetest.CheckKind(t, "stopped", err, keyservice.Unavailable, "")
		_, err = key.Unwrap(t.Context(), wrapped, nil)
		keyservicetest.CheckKind(t, "stopped", err, keyservice.Unavailable, "no such file or directory")
		plugin.Start()
		keyservicetest.Unwrap(t, key, wrapped)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before 20 restarts, %d after", before, runtime.NumGoroutine())
		}
	}
}

// A plugin that restarts between two calls, without one in between that fails.
func TestPluginThatRestartsUnseen(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	wrapped := keyservicetest.Wrap(t, key, "")
	for range 5 {
		plugin.Stop()
		plugin.Start()
		var err error
		for range 2 { // the retry that a decorator makes
			if _, err = key.Unwrap(t.Context(), wrapped, nil); err == nil {
				break
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
}

func TestCloseWhileInUse(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	wrapped := keyservicetest.Wrap(t, key, "")
	plugin.Behave(upstreamtest.Behaviour{Stall: true})
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			for {
				_, err := key.Unwrap(t.Context(), wrapped, nil)
				if keyservice.KindOf(err) != keyservice.Unavailable || keyservice.Canceled(err) {
					t.Error(err)
				}
				if strings.Contains(err.Error(), "the key is closed") {
					return
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	key.Close()
	calls.Wait()
}

func TestDeadline(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	plugin.Behave(upstreamtest.Behaviour{Stall: true})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := key.Wrap(ctx, "", seed, nil)
	keyservicetest.CheckKind(t, "stalled", err, keyservice.Unavailable, "")
	if keyservice.Canceled(err) {
		t.Error("a deadline is no cancellation")
	}
}

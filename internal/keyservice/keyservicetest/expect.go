package keyservicetest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Secret and AAD are what a key service's own tests wrap. WantKind and CheckKind see to it that no error shows the secret.
const (
	Secret = "0123456789abcdef0123456789abcdef"
	AAD    = "cluster \x00\xff"
)

// Open returns the key that config describes, opened with the key service's own Open. It is closed when the test ends. A nil
// log discards.
func Open[K keyservice.Key, C any](
	t testing.TB, open func(context.Context, C, *slog.Logger) (K, error), config C, log *slog.Logger,
) K {
	t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	key, err := open(t.Context(), config, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key
}

// Wrap returns Secret, wrapped with AAD under a version; the empty one is the newest.
func Wrap(t testing.TB, key keyservice.Key, version keyservice.VersionID) keyservice.Wrapped {
	t.Helper()
	wrapped, err := key.Wrap(t.Context(), version, []byte(Secret), []byte(AAD))
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, keyservice.HintOf(err))
	}
	return wrapped
}

// Unwrap sees that the key opens what Wrap returned.
func Unwrap(t testing.TB, key keyservice.Key, wrapped keyservice.Wrapped) {
	t.Helper()
	got, err := key.Unwrap(t.Context(), wrapped, []byte(AAD))
	if err != nil || string(got) != Secret {
		t.Fatalf("unwrapping: %v, equal %t", err, string(got) == Secret)
	}
}

// RoundTrip sees that the key wraps, and opens what it wrapped.
func RoundTrip(t testing.TB, key keyservice.Key) {
	t.Helper()
	Unwrap(t, key, Wrap(t, key, ""))
}

// Versions returns what the key says of its versions, whose ids must be such that an envelope can carry them.
func Versions(t testing.TB, key keyservice.Key) (newest, previous keyservice.Version) {
	t.Helper()
	newest, previous, err := key.Versions(t.Context())
	if err != nil {
		t.Fatalf("listing versions: %v (hint: %s)", err, keyservice.HintOf(err))
	}
	for _, v := range []keyservice.Version{newest, previous} {
		if len(v.ID) > keyservice.MaxVersionIDSize || strings.ContainsFunc(string(v.ID), func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("version id %q is not 1 to %d printable characters", v.ID, keyservice.MaxVersionIDSize)
		}
	}
	if newest.ID == "" {
		t.Fatal("the newest version has no id")
	}
	return newest, previous
}

// Newest returns the id of the newest version.
func Newest(t testing.TB, key keyservice.Key) keyservice.VersionID {
	t.Helper()
	newest, _ := Versions(t, key)
	return newest.ID
}

// WantKind sees that err is of a kind, holds a text, has a hint and shows none of the secrets. The test ends if not.
func WantKind(t testing.TB, err error, kind keyservice.Kind, text string, secrets ...string) {
	t.Helper()
	if wrong := wrongWith(err, kind, text, secrets); wrong != "" {
		t.Fatal(wrong)
	}
}

// CheckKind is WantKind for one of many cases, named by what, and for other goroutines than the test's: the test goes on.
func CheckKind(t testing.TB, what string, err error, kind keyservice.Kind, text string, secrets ...string) {
	t.Helper()
	if wrong := wrongWith(err, kind, text, secrets); wrong != "" {
		t.Errorf("%s: %s", what, wrong)
	}
}

func wrongWith(err error, kind keyservice.Kind, text string, secrets []string) string {
	if err == nil {
		return fmt.Sprintf("no error, want %s", kind)
	}
	hint := keyservice.HintOf(err) // only a *keyservice.Error has one
	shows := func(secret string) bool { return strings.Contains(err.Error()+hint, secret) }
	switch {
	case keyservice.KindOf(err) != kind || !strings.Contains(err.Error(), text):
		return fmt.Sprintf("%v (kind %s), want kind %s and %q", err, keyservice.KindOf(err), kind, text)
	case hint == "":
		return fmt.Sprintf("no hint with: %v", err)
	case shows(Secret) || slices.ContainsFunc(secrets, shows):
		return fmt.Sprintf("the error shows a secret: %v", err)
	}
	return ""
}

// CheckProblem sees that a configuration, named by what, was refused with an error that names the field (unless that is empty),
// holds a text and shows none of the secrets.
func CheckProblem(t testing.TB, what string, err error, field, text string, secrets ...string) {
	t.Helper()
	if err == nil || field != "" && !strings.Contains(err.Error(), field+":") || !strings.Contains(err.Error(), text) {
		t.Errorf("%q: %v, want a problem with %s: %s", what, err, field, text)
		return
	}
	if slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(err.Error(), secret) }) {
		t.Errorf("%q: the problem shows a secret: %v", what, err)
	}
}

// CheckFields sees that validating a configuration, named by what, reports problems of these fields, which are sorted, and of
// no others.
func CheckFields(t testing.TB, what string, validate func(report func(field, problem string)), want []string) {
	t.Helper()
	var fields []string
	validate(func(field, problem string) {
		fields = append(fields, field)
		if problem == "" {
			t.Errorf("%s: no problem for %q", what, field)
		}
	})
	slices.Sort(fields)
	if !slices.Equal(fields, want) {
		t.Errorf("%s: reported %q, want %q", what, fields, want)
	}
}

// CheckCancelled sees that a call, named by what, that is not answered returns as soon as its context is cancelled.
func CheckCancelled(t testing.TB, what string, call func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	time.Sleep(20 * time.Millisecond)
	cancelled := time.Now()
	cancel()
	err := <-done
	if took := time.Since(cancelled); took > 50*time.Millisecond || !keyservice.Canceled(err) {
		t.Errorf("%s: %v, %s after its context was cancelled", what, err, took)
	}
}

// Package keyservicetest is what every key service has to pass: one conformance suite for keyservice.Key, a fake that
// passes it too and breaks to order, and what the tests of one key service alone expect as the others do. It is imported by
// tests alone.
package keyservicetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Harness is one key in one key service, set up for one test. Funcs that may be nil are powers that not every service
// has; the suite says which tests it left out.
type Harness struct {
	// Open returns a new handle to the same key, which logs to log. The suite closes it.
	Open func(t *testing.T, log *slog.Logger) keyservice.Key
	// Form is how the key wraps, as its package describes it. The suite measures whether that is true.
	Form keyservice.Form
	// CannotChoose says that the service wraps with a version of its own choice, whatever is asked for.
	CannotChoose bool
	// Rotate makes a new version at the service.
	Rotate func(t *testing.T)
	// Recreate deletes the key and makes another under its name; versions must differ even within one second only
	// if the service's identity of material allows it, so the harness may wait.
	Recreate func(t *testing.T)
	// Faults are named ways to break the service, each with the kind that calls must then have. Break returns what
	// repairs it, or nil if it cannot be repaired.
	Faults []ServiceFault
	// Stall makes the service accept calls and not answer, until the returned func is called.
	Stall func(t *testing.T) (resume func())
	// Secrets are strings that no error and no log line may hold.
	Secrets []string
}

// ServiceFault is one way to break a key service.
type ServiceFault struct {
	Name  string
	Kind  keyservice.Kind
	Break func(t *testing.T) (repair func())
}

var suiteAAD = []byte("trousseau conformance \x00\xff")

// Run runs the suite; setup is called for each test.
func Run(t *testing.T, setup func(t *testing.T) Harness) {
	tests := []struct {
		name string
		run  func(*testing.T, Harness, keyservice.Key)
	}{
		{"RoundTrip", testRoundTrip},
		{"TakesAsManyBytesAsDescribed", testForm},
		{"RefusesBadSizes", testRefusesBadSizes},
		{"LeavesItsArgumentsAlone", testArguments},
		{"EveryFlippedByteIsCorrupt", testFlippedBytes},
		{"EveryTruncationIsCorrupt", testTruncations},
		{"OtherAADIsCorrupt", testOtherAAD},
		{"UnknownVersionIsNotFound", testUnknownVersion},
		{"VersionsAreStable", testVersionsAreStable},
		{"Rotation", testRotation},
		{"RotationSeenByAnotherHandle", testRotationAcrossHandles},
		{"Recreation", testRecreation},
		{"Faults", testFaults},
		{"CancelledContextReturnsAtOnce", testCancelled},
		{"Concurrent", testConcurrent},
		{"ClosedIsUnavailable", testClosed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := setup(t)
			var logged Log
			key := h.Open(t, logged.Logger())
			t.Cleanup(func() {
				key.Close()
				noSecrets(t, h, "log", logged.String())
			})
			test.run(t, h, key)
		})
	}
}

func testRoundTrip(t *testing.T, _ Harness, key keyservice.Key) {
	newest, _ := Versions(t, key)
	for _, size := range []int{1, 16, 32, 33, keyservice.MaxSecretSize} {
		secret := pattern(size)
		for _, version := range []keyservice.VersionID{"", newest.ID} {
			w := wrap(t, key, version, secret)
			if w.Version != newest.ID {
				t.Errorf("%d bytes: wrapped by version %q, asked for %q, newest is %q", size, w.Version, version, newest.ID)
			}
			if bytes.Contains(w.Bytes, secret) && size > 1 {
				t.Errorf("%d bytes: the secret is in the wrapped bytes", size)
			}
			got, err := key.Unwrap(t.Context(), w, suiteAAD)
			if err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%d bytes: unwrapping: %v, equal %t", size, err, bytes.Equal(got, secret))
			}
		}
	}
	if a, b := wrap(t, key, "", pattern(32)), wrap(t, key, "", pattern(32)); bytes.Equal(a.Bytes, b.Bytes) {
		t.Error("wrapping the same secret twice gives the same bytes")
	}
}

func testForm(t *testing.T, h Harness, key keyservice.Key) {
	w := wrap(t, key, "", pattern(32))
	if len(w.Version) != h.Form.Version || len(w.Bytes) != h.Form.Wrapped {
		t.Errorf("%s: the version has %d bytes and the wrapped share %d, described are %d and %d",
			h.Form.Algorithm, len(w.Version), len(w.Bytes), h.Form.Version, h.Form.Wrapped)
	}
}

func testRefusesBadSizes(t *testing.T, h Harness, key keyservice.Key) {
	for _, size := range []int{0, 1 << 20} {
		_, err := key.Wrap(t.Context(), "", make([]byte, size), suiteAAD)
		wantKind(t, h, fmt.Sprintf("wrapping %d bytes", size), err, keyservice.Invalid)
	}
	newest, _ := Versions(t, key)
	for _, size := range []int{0, 1 << 20} {
		_, err := key.Unwrap(t.Context(), keyservice.Wrapped{Version: newest.ID, Bytes: make([]byte, size)}, suiteAAD)
		wantKind(t, h, fmt.Sprintf("unwrapping %d bytes", size), err, keyservice.Corrupt, keyservice.Invalid)
	}
}

func testArguments(t *testing.T, _ Harness, key keyservice.Key) {
	secret, aad := pattern(32), slices.Clone(suiteAAD)
	w, err := key.Wrap(t.Context(), "", secret, aad)
	if err != nil {
		t.Fatal(err)
	}
	kept := slices.Clone(w.Bytes)
	if _, err := key.Unwrap(t.Context(), w, aad); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(secret, pattern(32)) || !bytes.Equal(aad, suiteAAD) || !bytes.Equal(w.Bytes, kept) {
		t.Error("a call changed a slice that it was given")
	}
	clear(w.Bytes)
	if _, err := key.Unwrap(t.Context(), keyservice.Wrapped{Version: w.Version, Bytes: kept}, aad); err != nil {
		t.Errorf("clearing what Wrap returned disturbed the key: %v", err)
	}
}

func testFlippedBytes(t *testing.T, h Harness, key keyservice.Key) {
	w := wrap(t, key, "", pattern(32))
	for i := range w.Bytes {
		flipped := slices.Clone(w.Bytes)
		flipped[i] ^= 0x40
		_, err := key.Unwrap(t.Context(), keyservice.Wrapped{Version: w.Version, Bytes: flipped}, suiteAAD)
		wantKind(t, h, fmt.Sprintf("byte %d flipped", i), err, keyservice.Corrupt)
	}
}

func testTruncations(t *testing.T, h Harness, key keyservice.Key) {
	w := wrap(t, key, "", pattern(32))
	for n := range w.Bytes {
		_, err := key.Unwrap(t.Context(), keyservice.Wrapped{Version: w.Version, Bytes: w.Bytes[:n]}, suiteAAD)
		wantKind(t, h, fmt.Sprintf("cut to %d bytes", n), err, keyservice.Corrupt)
	}
}

func testOtherAAD(t *testing.T, h Harness, key keyservice.Key) {
	if !h.Form.AAD {
		t.Skip("this service takes no associated data")
	}
	w := wrap(t, key, "", pattern(32))
	for _, aad := range [][]byte{nil, suiteAAD[:len(suiteAAD)-1], append(slices.Clone(suiteAAD), 0)} {
		_, err := key.Unwrap(t.Context(), w, aad)
		wantKind(t, h, fmt.Sprintf("aad %q", aad), err, keyservice.Corrupt)
	}
}

func testUnknownVersion(t *testing.T, h Harness, key keyservice.Key) {
	w := wrap(t, key, "", pattern(32))
	for _, version := range []keyservice.VersionID{"no-such-version", "99.zzzzzz", "../x", keyservice.VersionID(strings.Repeat("9", 64))} {
		_, err := key.Unwrap(t.Context(), keyservice.Wrapped{Version: version, Bytes: w.Bytes}, suiteAAD)
		wantKind(t, h, fmt.Sprintf("unwrapping under version %q", version), err, keyservice.NotFound)
		if h.CannotChoose {
			continue
		}
		_, err = key.Wrap(t.Context(), version, pattern(32), suiteAAD)
		wantKind(t, h, fmt.Sprintf("wrapping under version %q", version), err, keyservice.NotFound)
	}
}

func testVersionsAreStable(t *testing.T, h Harness, key keyservice.Key) {
	a, _ := Versions(t, key)
	b, _ := Versions(t, key)
	other := open(t, h)
	c, _ := Versions(t, other)
	if a != b || a.ID != c.ID || !a.Created.Equal(c.Created) {
		t.Errorf("nothing changed, versions did: %v, %v, another handle: %v", a, b, c)
	}
	if a.State != keyservice.StateEnabled {
		t.Errorf("the newest version is %s", a.State)
	}
	w := wrap(t, key, "", pattern(32))
	if got, err := other.Unwrap(t.Context(), w, suiteAAD); err != nil || !bytes.Equal(got, pattern(32)) {
		t.Errorf("another handle to the same key does not unwrap: %v", err)
	}
}

func testRotation(t *testing.T, h Harness, key keyservice.Key) {
	if h.Rotate == nil {
		t.Skip("this service cannot rotate")
	}
	first, none := Versions(t, key)
	if none.ID != "" {
		t.Errorf("a key with one version has a previous one: %v", none)
	}
	old := wrap(t, key, "", pattern(32))
	h.Rotate(t)
	newest, previous := Versions(t, key)
	if newest.ID == first.ID || (previous.ID != first.ID && previous.ID != "") {
		t.Fatalf("after rotating %v: newest %v, previous %v", first, newest, previous)
	}
	if newest.Created.Before(first.Created) {
		t.Errorf("the newest version is older than the first: %v, %v", newest.Created, first.Created)
	}
	if w := wrap(t, key, "", pattern(32)); w.Version != newest.ID {
		t.Errorf("wrapped by %q after rotating to %q", w.Version, newest.ID)
	}
	if got, err := key.Unwrap(t.Context(), old, suiteAAD); err != nil || !bytes.Equal(got, pattern(32)) {
		t.Errorf("what the previous version wrapped does not open: %v", err)
	}
	if previous.ID != "" && previous.State == keyservice.StateEnabled {
		if w := wrap(t, key, previous.ID, pattern(32)); w.Version != previous.ID {
			t.Errorf("asked for the previous version %q, wrapped by %q", previous.ID, w.Version)
		}
	}
}

func testRotationAcrossHandles(t *testing.T, h Harness, key keyservice.Key) {
	if h.Rotate == nil {
		t.Skip("this service cannot rotate")
	}
	late := open(t, h)
	Versions(t, late)
	h.Rotate(t)
	newest, _ := Versions(t, key)
	w := wrap(t, key, newest.ID, pattern(32))
	if got, err := late.Unwrap(t.Context(), w, suiteAAD); err != nil || !bytes.Equal(got, pattern(32)) {
		t.Errorf("a handle that was opened before the rotation does not unwrap what came after it: %v", err)
	}
}

func testRecreation(t *testing.T, h Harness, key keyservice.Key) {
	if h.Recreate == nil {
		t.Skip("this service cannot recreate a key")
	}
	first, _ := Versions(t, key)
	old := wrap(t, key, "", pattern(32))
	h.Recreate(t)
	newest, _ := Versions(t, key)
	if newest.ID == first.ID {
		t.Errorf("the key was deleted and made again, its version is still %q", first.ID)
	}
	_, err := key.Unwrap(t.Context(), old, suiteAAD)
	wantKind(t, h, "unwrapping what the deleted key wrapped", err, keyservice.NotFound, keyservice.Corrupt)
	if h.CannotChoose {
		return
	}
	_, err = key.Wrap(t.Context(), first.ID, pattern(32), suiteAAD)
	wantKind(t, h, "wrapping under the deleted key's version", err, keyservice.NotFound)
}

func testFaults(t *testing.T, h Harness, key keyservice.Key) {
	for _, fault := range h.Faults {
		t.Run(fault.Name, func(t *testing.T) {
			w := wrap(t, key, "", pattern(32))
			repair := fault.Break(t)
			_, err := key.Unwrap(t.Context(), w, suiteAAD)
			wantKind(t, h, "unwrapping", err, fault.Kind)
			_, err = key.Wrap(t.Context(), w.Version, pattern(32), suiteAAD)
			wantKind(t, h, "wrapping", err, fault.Kind)
			if err != nil && keyservice.HintOf(err) == "" {
				t.Errorf("no hint with: %v", err)
			}
			if repair == nil {
				t.Skip("cannot be repaired")
			}
			repair()
			if got, err := key.Unwrap(t.Context(), w, suiteAAD); err != nil || !bytes.Equal(got, pattern(32)) {
				t.Errorf("after the repair: %v", err)
			}
		})
	}
}

func testCancelled(t *testing.T, h Harness, key keyservice.Key) {
	w := wrap(t, key, "", pattern(32))
	calls := map[string]func(context.Context) error{
		"Wrap":     func(ctx context.Context) error { _, err := key.Wrap(ctx, "", pattern(32), suiteAAD); return err },
		"Unwrap":   func(ctx context.Context) error { _, err := key.Unwrap(ctx, w, suiteAAD); return err },
		"Versions": func(ctx context.Context) error { _, _, err := key.Versions(ctx); return err },
	}
	for name, call := range calls {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := call(ctx); !keyservice.Canceled(err) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
	if h.Stall == nil {
		return
	}
	defer h.Stall(t)()
	for name, call := range calls {
		CheckCancelled(t, name, call)
	}
}

func testConcurrent(t *testing.T, _ Harness, key keyservice.Key) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			secret := bytes.Repeat([]byte{byte(i + 1)}, 32)
			for range 8 {
				w, err := key.Wrap(t.Context(), "", secret, suiteAAD)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := key.Unwrap(t.Context(), w, suiteAAD); err != nil || !bytes.Equal(got, secret) {
					t.Errorf("unwrapping: %v, equal %t", err, bytes.Equal(got, secret))
				}
				if _, _, err := key.Versions(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func testClosed(t *testing.T, h Harness, key keyservice.Key) {
	w := wrap(t, key, "", pattern(32))
	if err := key.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	key.Close() // a second time does no harm
	_, err := key.Wrap(t.Context(), "", pattern(32), suiteAAD)
	wantKind(t, h, "wrapping", err, keyservice.Unavailable)
	_, err = key.Unwrap(t.Context(), w, suiteAAD)
	wantKind(t, h, "unwrapping", err, keyservice.Unavailable)
	_, _, err = key.Versions(t.Context())
	wantKind(t, h, "listing versions", err, keyservice.Unavailable)
}

func open(t *testing.T, h Harness) keyservice.Key {
	t.Helper()
	key := h.Open(t, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { key.Close() })
	return key
}

func wrap(t *testing.T, key keyservice.Key, version keyservice.VersionID, secret []byte) keyservice.Wrapped {
	t.Helper()
	w, err := key.Wrap(t.Context(), version, secret, suiteAAD)
	if err != nil {
		t.Fatalf("wrapping %d bytes: %v", len(secret), err)
	}
	return w
}

// wantKind checks that err is an *Error of one of the kinds and holds no secret.
func wantKind(t *testing.T, h Harness, what string, err error, kinds ...keyservice.Kind) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want %v", what, kinds)
		return
	}
	if _, ok := errors.AsType[*keyservice.Error](err); !ok {
		t.Errorf("%s: %T is no *keyservice.Error: %v", what, err, err)
	}
	if !slices.Contains(kinds, keyservice.KindOf(err)) {
		t.Errorf("%s: %v (kind %s), want kind %v", what, err, keyservice.KindOf(err), kinds)
	}
	noSecrets(t, h, what, err.Error()+keyservice.HintOf(err))
}

func noSecrets(t *testing.T, h Harness, where, text string) {
	t.Helper()
	for _, secret := range append([]string{string(pattern(32))}, h.Secrets...) {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds a secret", where)
		}
	}
}

// pattern returns n printable bytes that are found again if they turn up where they should not.
func pattern(n int) []byte {
	return bytes.Repeat([]byte("s3cr3t-pattern-"), 8)[:n]
}

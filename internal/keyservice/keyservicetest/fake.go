package keyservicetest

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Fake is a key service in memory with real cryptography, versions and states, and with faults to order. It is a
// keyservice.Key itself and passes the same suite as the others.
type Fake struct {
	mu       sync.Mutex
	versions []fakeVersion // oldest first
	fault    Fault
	closed   bool
	calls    map[string]int
}

type fakeVersion struct {
	keyservice.Version
	material []byte
}

// Fault is what goes wrong with the calls to a Fake. The zero Fault is none.
type Fault struct {
	Err    *keyservice.Error      // returned by every call, or nil
	Ops    []string               // the calls that it happens to ("wrap", "unwrap", "versions"); empty means all
	Stall  time.Duration          // each call takes this long, unless its context ends before
	Damage bool                   // Wrap and Unwrap answer with a flipped bit
	Forget []keyservice.VersionID // versions that the service does not know (for now)
	Other  keyservice.VersionID   // Wrap uses this version, whatever was asked for
}

// NewFake returns a Fake with one version, created at the given time; the zero time means that the service does not
// tell when versions were created.
func NewFake(created time.Time) *Fake {
	f := &Fake{calls: make(map[string]int)}
	f.Rotate(created)
	return f
}

// Rotate makes a new version and returns it.
func (f *Fake) Rotate(created time.Time) keyservice.Version {
	material := make([]byte, 32)
	rand.Read(material)
	id := sha256.Sum256(material)
	v := keyservice.Version{ID: keyservice.VersionID(hex.EncodeToString(id[:6])), Created: created}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.versions = append(f.versions, fakeVersion{v, material})
	return v
}

// Recreate deletes the key with all its versions and makes another in its place.
func (f *Fake) Recreate(created time.Time) keyservice.Version {
	f.mu.Lock()
	f.versions = nil
	f.mu.Unlock()
	return f.Rotate(created)
}

// SetState changes what a version may be used for.
func (f *Fake) SetState(id keyservice.VersionID, state keyservice.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.versions {
		if f.versions[i].ID == id {
			f.versions[i].State = state
		}
	}
}

// Break makes calls from now on fail as described, until the next Break. Break(Fault{}) repairs.
func (f *Fake) Break(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Fail breaks every call with an error of the given kind.
func (f *Fake) Fail(kind keyservice.Kind, ops ...string) {
	f.Break(Fault{Err: &keyservice.Error{Kind: kind, Op: "asking the fake"}, Ops: ops})
}

// Calls returns how often the operation ("wrap", "unwrap", "versions"), or with "" any, was called.
func (f *Fake) Calls(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if op != "" {
		return f.calls[op]
	}
	sum := 0
	for _, n := range f.calls {
		sum += n
	}
	return sum
}

// Wrap implements keyservice.Key.
func (f *Fake) Wrap(ctx context.Context, version keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	fault, err := f.enter(ctx, "wrap")
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	if len(secret) == 0 || len(secret) > keyservice.MaxSecretSize {
		return keyservice.Wrapped{}, fail(keyservice.Invalid, "wrapping %d bytes", len(secret))
	}
	if fault.Other != "" {
		version = fault.Other
	}
	v, aead, err := f.version(version, fault)
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	if v.State != keyservice.StateEnabled {
		return keyservice.Wrapped{}, fail(keyservice.Disabled, "wrapping with version %s", v.ID)
	}
	out := damage(aead.Seal(nil, nil, secret, aad), fault)
	return keyservice.Wrapped{Version: v.ID, Bytes: out}, nil
}

// Unwrap implements keyservice.Key.
func (f *Fake) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	fault, err := f.enter(ctx, "unwrap")
	if err != nil {
		return nil, err
	}
	v, aead, err := f.version(wrapped.Version, fault)
	if err != nil {
		return nil, err
	}
	if v.State == keyservice.StateDisabled {
		return nil, fail(keyservice.Disabled, "unwrapping with version %s", v.ID)
	}
	secret, err := aead.Open(nil, nil, wrapped.Bytes, aad)
	if err != nil {
		return nil, fail(keyservice.Corrupt, "unwrapping with version %s", v.ID)
	}
	return damage(secret, fault), nil
}

// Versions implements keyservice.Key.
func (f *Fake) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	fault, err := f.enter(ctx, "versions")
	if err != nil {
		return newest, previous, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.versions {
		if !fault.forgets(v.ID) {
			newest, previous = v.Version, newest
		}
	}
	if newest.ID == "" {
		return newest, previous, fail(keyservice.NotFound, "listing versions")
	}
	return newest, previous, nil
}

// Close implements keyservice.Key.
func (f *Fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// Closed reports whether Close was called.
func (f *Fake) Closed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// enter counts the call and lets the fault happen to it.
func (f *Fake) enter(ctx context.Context, op string) (Fault, error) {
	f.mu.Lock()
	f.calls[op]++
	fault, closed := f.fault, f.closed
	f.mu.Unlock()
	if closed {
		return fault, fail(keyservice.Unavailable, "asking a closed key")
	}
	if !fault.hits(op) {
		return Fault{}, ctxError(ctx)
	}
	if fault.Stall > 0 {
		select {
		case <-time.After(fault.Stall):
		case <-ctx.Done():
		}
	}
	if err := ctxError(ctx); err != nil {
		return fault, err
	}
	if fault.Err != nil {
		return fault, fault.Err
	}
	return fault, nil
}

func (f *Fake) version(id keyservice.VersionID, fault Fault) (fakeVersion, cipher.AEAD, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.versions) - 1; i >= 0; i-- {
		v := f.versions[i]
		if (id != "" && v.ID != id) || fault.forgets(v.ID) {
			continue
		}
		block, err := aes.NewCipher(v.material)
		if err != nil {
			return v, nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		return v, aead, err
	}
	return fakeVersion{}, nil, fail(keyservice.NotFound, "looking for version %q", id)
}

func (f Fault) hits(op string) bool {
	for _, o := range f.Ops {
		if o == op {
			return true
		}
	}
	return len(f.Ops) == 0
}

func (f Fault) forgets(id keyservice.VersionID) bool {
	for _, v := range f.Forget {
		if v == id {
			return true
		}
	}
	return false
}

func damage(b []byte, fault Fault) []byte {
	if !fault.Damage || len(b) == 0 {
		return b
	}
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

func ctxError(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return &keyservice.Error{Kind: keyservice.Unavailable, Op: "asking the fake", Err: err}
	}
	return nil
}

func fail(kind keyservice.Kind, format string, args ...any) error {
	return &keyservice.Error{Kind: kind, Op: fmt.Sprintf(format, args...), Hint: "look at the test"}
}

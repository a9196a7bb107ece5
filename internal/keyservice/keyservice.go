// Package keyservice is the seam between Trousseau and everything that can wrap a short secret: Vault, an HSM, a key
// file, another plugin.
//
// Above the seam everything is concrete; below it is one folder per key service. A key service wraps one short secret
// and knows nothing of Kubernetes, envelopes or policies. It assigns each of its errors one Kind from a closed set, so
// that callers branch on kinds and never on text.
package keyservice

import (
	"context"
	"time"

	"github.com/trousseau-io/trousseau/internal/finding"
)

// MaxSecretSize is the size in bytes of the largest secret that every Key must be able to wrap: a share of an
// envelope's root has 32 bytes, the rest is room for what a later format needs.
const MaxSecretSize = 60

// Key is one key in one key service.
//
// All methods may be called concurrently. None of them retries, bounds its own concurrency or sets a deadline: the
// decorators of this package do. A method returns soon after its context ends, and every error it returns is, or
// wraps, an *Error. Keys do not keep or change the slices they are given, and the caller owns what they return.
type Key interface {
	// Wrap encrypts secret (1 to MaxSecretSize bytes) under the given version and binds aad to it where the service
	// can. The empty version means the newest. A service that cannot choose a version uses the one it has: callers
	// compare Wrapped.Version, which the service's own answer gives, with what they asked for.
	Wrap(ctx context.Context, version VersionID, secret, aad []byte) (Wrapped, error)

	// Unwrap returns the secret that Wrap was given. It opens any version that the service still holds. A changed
	// byte, another aad or another key's output is Corrupt; a version that the service no longer has is NotFound.
	Unwrap(ctx context.Context, wrapped Wrapped, aad []byte) ([]byte, error)

	// Versions returns the newest version of the key and the one before it, which is the zero Version where there is
	// none (or where the service does not tell).
	Versions(ctx context.Context) (newest, previous Version, err error)

	// Close releases connections and wipes what the key holds. Calls after it fail as Unavailable.
	Close() error
}

// VersionID names one generation of a key: an opaque, printable string of at most 64 bytes that is derived from the
// identity of the key's material. It survives neither deletion and recreation of the key nor a restore of another lineage.
type VersionID string

// MaxVersionIDSize is the size in bytes of the longest VersionID: the length that an envelope can carry.
const MaxVersionIDSize = 64

// Version is one generation of a key as its service describes it.
type Version struct {
	ID      VersionID
	Created time.Time // zero where the service does not tell
	State   State
}

// State says what a version may be used for.
type State uint8

const (
	// StateEnabled versions wrap and unwrap.
	StateEnabled State = iota
	// StateOpenOnly versions unwrap what they wrapped before and wrap nothing new.
	StateOpenOnly
	// StateDisabled versions do neither, until somebody enables them again.
	StateDisabled
)

func (s State) String() string {
	switch s {
	case StateEnabled:
		return "enabled"
	case StateOpenOnly:
		return "open only"
	case StateDisabled:
		return "disabled"
	}
	return "unknown"
}

// Wrapped is a secret wrapped by a Key.
type Wrapped struct {
	Version VersionID // what wrapped it
	Bytes   []byte    // the service's ciphertext in its shortest form
}

// Inspector is implemented by a Key that can look at its own settings for something dangerous or about to go wrong:
// a key that may be deleted, a token that cannot be renewed. Inspect is for an operator who asked, not for the path of a
// request. It returns what it could find out; an error means that it could not look.
type Inspector interface {
	Inspect(ctx context.Context) ([]finding.Finding, error)
}

// Unauthenticated is what the Inspect of a Key reports that wraps with a public key: whoever has that can make what the
// key opens. Whether that matters depends on the other keys of a policy.
func Unauthenticated(id string) finding.Finding {
	return finding.Finding{
		Rule: "key-unauthenticated", Severity: finding.Info, Where: id,
		What: "it wraps with a public key: whoever has that, which is no secret, and can write to etcd makes values that open",
		Fix:  "use a symmetric key (AES), or use this one only in a policy with one that is",
	}
}

package credential

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
)

// redacted is all that a Secret says about itself.
const redacted = "redacted"

// Secret is bytes that cannot print themselves: every way of formatting, logging or encoding one says "redacted". Copies
// share the bytes, so that wiping one wipes all. The zero Secret is empty.
type Secret struct {
	at *place
}

// place keeps the bytes two pointers away. Package fmt prints the unexported fields of an enclosing struct without
// calling their methods, and follows one pointer when the verb is wrong for it: here it finds an address.
type place struct{ material *[]byte }

// NewSecret returns a Secret with a copy of b.
func NewSecret(b []byte) Secret { return own(bytes.Clone(b)) }

// own returns a Secret that takes b over.
func own(b []byte) Secret { return Secret{at: &place{material: &b}} }

// Bytes returns the bytes themselves, not a copy: the caller must not keep, change or log them. It returns nil for the
// zero Secret and after Wipe.
func (s Secret) Bytes() []byte {
	if s.at == nil {
		return nil
	}
	return *s.at.material
}

// Equal compares in a time that depends on the lengths alone.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare(s.Bytes(), other.Bytes()) == 1
}

// Wipe overwrites the bytes and forgets them. Nobody may use the Secret at the same time.
func (s Secret) Wipe() {
	if s.at == nil {
		return
	}
	clear(*s.at.material)
	*s.at.material = nil
}

// Fingerprint is equal for equal content, within one process. It tells nothing about the content to who does not hold
// the process's memory.
type Fingerprint uint64

// seed makes fingerprints useless outside this process.
var seed = maphash.MakeSeed()

// Fingerprint returns the fingerprint of the bytes.
func (s Secret) Fingerprint() Fingerprint { return Fingerprint(maphash.Bytes(seed, s.Bytes())) }

// Fingerprint reads the file as Read does and returns the fingerprint of its content: the cheap way to notice that a
// credential was replaced, which modification times do not tell reliably.
func (f File) Fingerprint() (Fingerprint, error) {
	secret, err := f.Read()
	if err != nil {
		return 0, err
	}
	defer secret.Wipe()
	return secret.Fingerprint(), nil
}

// String returns "redacted".
func (Secret) String() string { return redacted }

// GoString returns "redacted".
func (Secret) GoString() string { return redacted }

// Format writes "redacted" for every verb and flag.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// MarshalText returns "redacted".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "redacted" as a JSON string.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalYAML returns "redacted".
func (Secret) MarshalYAML() (any, error) { return redacted, nil }

// LogValue returns "redacted".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

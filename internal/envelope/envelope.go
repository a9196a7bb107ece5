// Package envelope seals a short secret under a policy of keys in key services, opens what it sealed, and names what
// took part: the byte format trs1 and the key id.
//
// It promises that an envelope opens only under a policy that the caller lists, with the cluster, generation, number of
// keys and key versions that it was sealed with; that any changed byte is refused; that no root is used twice; and that keys
// which are away, slow or wrong hold nothing up while enough others open. It does not choose versions, call a key twice for
// one envelope, or cache: all that it remembers is how fast keys answered. The format is specified in docs/formats.md.
package envelope

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// MaxKeys is the largest number of keys in a policy.
const MaxKeys = 8

// SharesAnnotation names the annotation that holds spilled shares beside a ciphertext. Kubernetes wants a dotted DNS name.
const SharesAnnotation = "shares.trousseau.io"

const (
	magic      = "trs1"
	digestSize = 8
	sealSize   = 16 // GCM's tag: the seal is this much longer than the plaintext
)

// Envelope is a secret sealed under a policy, in parsed form.
//
//	 0  4  "trs1"
//	 4  4  cluster tag: first bytes of SHA-256 over the cluster's name and lineage
//	 8  8  policy tag: first bytes of the policy's hash
//	16  1  k: shares that rebuild the root
//	17  1  n: keys in the policy
//	18  1  number of shares in this envelope, k to n
//	19  1  number of them that follow here; the rest is spilled
//	20     shares, by slot
//	       seal: AES-256-GCM of the plaintext, 16 bytes longer than it
//
// A share, here or spilled, is
//
//	slot 1 ‖ length 1, version ‖ if k > 1: digest 8 ‖ length 2, wrapped bytes
//
// The seal authenticates everything before it, and spilled shares as if they had not been spilled.
type Envelope struct {
	ClusterTag [4]byte
	PolicyTag  [8]byte
	Need       uint8   // k
	Keys       uint8   // n
	Shares     []Share // by ascending slot
	Seal       []byte
}

// Share is one piece of an envelope's root, wrapped by the key in one slot of the policy.
type Share struct {
	Slot    uint8
	Version keyservice.VersionID
	Digest  [digestSize]byte // start of the share's SHA-256, if k > 1
	Wrapped []byte
}

// ErrMalformed says that bytes are no envelope: damaged, cut, or something else altogether.
var ErrMalformed = errors.New("not a whole trs1 envelope")

// Marshal encodes e in at most limit bytes, 0 meaning any number. Whole shares that do not fit, the last ones first, are
// spilled to the second result, which is nil if all fit. What does not fit even so is an error.
func (e *Envelope) Marshal(limit int) (ciphertext, spilled []byte, err error) {
	for inline := len(e.Shares); inline >= 0; inline-- {
		ciphertext, err := e.marshal(inline)
		if err != nil {
			return nil, nil, err
		}
		if limit > 0 && len(ciphertext) > limit {
			continue
		}
		var rest cryptobyte.Builder
		e.addShares(&rest, e.Shares[inline:])
		spilled, err := rest.Bytes()
		return ciphertext, spilled, err
	}
	return nil, nil, fmt.Errorf("encoding envelope: %d bytes of plaintext leave no room within %d bytes", len(e.Seal)-sealSize, limit)
}

func (e *Envelope) marshal(inline int) ([]byte, error) {
	var b cryptobyte.Builder
	e.addHeader(&b, inline)
	b.AddBytes(e.Seal)
	return b.Bytes()
}

// addHeader adds everything before the seal, with the first inline shares.
func (e *Envelope) addHeader(b *cryptobyte.Builder, inline int) {
	b.AddBytes([]byte(magic))
	b.AddBytes(e.ClusterTag[:])
	b.AddBytes(e.PolicyTag[:])
	b.AddUint8(e.Need)
	b.AddUint8(e.Keys)
	b.AddUint8(uint8(len(e.Shares)))
	b.AddUint8(uint8(inline))
	e.addShares(b, e.Shares[:inline])
}

func (e *Envelope) addShares(b *cryptobyte.Builder, shares []Share) {
	for _, s := range shares {
		b.AddUint8(s.Slot)
		addString(b, string(s.Version))
		if e.Need > 1 {
			b.AddBytes(s.Digest[:])
		}
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.Wrapped) })
	}
}

// authenticated returns what the seal authenticates beside the plaintext: the encoding with no share spilled.
func (e *Envelope) authenticated() ([]byte, error) {
	var b cryptobyte.Builder
	e.addHeader(&b, len(e.Shares))
	return b.Bytes()
}

// Parse decodes what Marshal made. It checks the form alone: an envelope that parses may still be a forgery. All its
// errors are ErrMalformed, of kind Corrupt. The result shares memory with the arguments.
func Parse(ciphertext, spilled []byte) (*Envelope, error) {
	var (
		e             Envelope
		total, inline uint8
		prefix        []byte
	)
	in := cryptobyte.String(ciphertext)
	if !in.ReadBytes(&prefix, len(magic)) || string(prefix) != magic {
		return nil, malformed("it does not begin with %q", magic)
	}
	if !in.CopyBytes(e.ClusterTag[:]) || !in.CopyBytes(e.PolicyTag[:]) ||
		!in.ReadUint8(&e.Need) || !in.ReadUint8(&e.Keys) || !in.ReadUint8(&total) || !in.ReadUint8(&inline) {
		return nil, malformed("the header is cut")
	}
	if e.Need < 1 || e.Need > e.Keys || e.Keys > MaxKeys || total < e.Need || total > e.Keys || inline > total {
		return nil, malformed("%d of %d with %d shares, %d here", e.Need, e.Keys, total, inline)
	}
	rest := cryptobyte.String(spilled)
	if !e.readShares(&in, int(inline)) || !e.readShares(&rest, int(total-inline)) || !rest.Empty() {
		return nil, malformed("its shares are cut, or the spilled ones are not its own")
	}
	if !e.slotsAscend() {
		return nil, malformed("slots repeat or are out of range")
	}
	if e.Seal = in; len(e.Seal) < sealSize {
		return nil, malformed("the seal is cut")
	}
	return &e, nil
}

func (e *Envelope) readShares(in *cryptobyte.String, count int) bool {
	for range count {
		var (
			s                Share
			version, wrapped cryptobyte.String
		)
		if !in.ReadUint8(&s.Slot) || !in.ReadUint8LengthPrefixed(&version) ||
			(e.Need > 1 && !in.CopyBytes(s.Digest[:])) || !in.ReadUint16LengthPrefixed(&wrapped) ||
			len(version) == 0 || len(version) > keyservice.MaxVersionIDSize || len(wrapped) == 0 {
			return false
		}
		s.Version, s.Wrapped = keyservice.VersionID(version), wrapped
		e.Shares = append(e.Shares, s)
	}
	return true
}

func (e *Envelope) slotsAscend() bool {
	next := uint8(0)
	for _, s := range e.Shares {
		if s.Slot < next || s.Slot >= e.Keys {
			return false
		}
		next = s.Slot + 1
	}
	return true
}

// Versions returns the version of each slot's share, "" for slots without one.
func (e *Envelope) Versions() []keyservice.VersionID {
	versions := make([]keyservice.VersionID, e.Keys)
	for _, s := range e.Shares {
		versions[s.Slot] = s.Version
	}
	return versions
}

func addString(b *cryptobyte.Builder, s string) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

func malformed(format string, args ...any) error {
	return &keyservice.Error{
		Kind: keyservice.Corrupt, Op: "reading envelope", Err: fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...)),
		Hint: "restore the object from a backup; if every object is refused, another plugin made them: put its provider back",
	}
}

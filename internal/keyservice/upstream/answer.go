package upstream

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Kubernetes' limits on what a plugin returns, in bytes; the bounds themselves are allowed (k8s.io/apiserver,
// storage/value/encrypt/envelope/kmsv2/envelope.go).
const (
	maxKeyID       = 1024
	maxCiphertext  = 1024
	maxAnnotations = 32 << 10 // names and values together
)

// answer is what a plugin returned for a secret and wants back to open it. It is stored as
//
//	0  4  CRC-32C of all that follows
//	4  2  size of the key id
//	6  -  key id
//	-  2  size of all annotations
//	-  -  annotations, by ascending names: size of the name (1), name, size of the value (2), value
//	-  -  ciphertext: all that is left
//
// The checksum tells damaged bytes from a plugin that is away: most plugins answer both with the same code. It protects
// from accidents only.
type answer struct {
	keyID       string
	annotations map[string][]byte // nil if there are none
	ciphertext  []byte
}

// check returns what Kubernetes would refuse about the answer, or nil.
func (a answer) check() error {
	if err := checkKeyID(a.keyID); err != nil {
		return err
	}
	if n := len(a.ciphertext); n == 0 || n > maxCiphertext {
		return fmt.Errorf("the ciphertext has %d bytes, allowed are 1 to %d", n, maxCiphertext)
	}
	size := 0
	for name, value := range a.annotations {
		if !isDomainName(name) {
			return fmt.Errorf("the annotation %.64q is not named by a fully qualified domain name", name)
		}
		size += len(name) + len(value)
	}
	if size > maxAnnotations {
		return fmt.Errorf("the annotations have %d bytes, allowed are %d", size, maxAnnotations)
	}
	return nil
}

func checkKeyID(keyID string) error {
	if n := len(keyID); n == 0 || n > maxKeyID {
		return fmt.Errorf("the key id has %d bytes, allowed are 1 to %d", n, maxKeyID)
	}
	return nil
}

var domainName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$`)

// isDomainName is IsFullyQualifiedDomainName of k8s.io/apimachinery, which the daemon does not link.
func isDomainName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	return len(name) <= 253 && domainName.MatchString(name)
}

// encode returns the answer as it is stored, the same bytes for equal answers.
func (a answer) encode() ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.keyID)) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, name := range slices.Sorted(maps.Keys(a.annotations)) {
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(a.annotations[name]) })
		}
	})
	b.AddBytes(a.ciphertext)
	content, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32(nil, checksum(content)), content...), nil
}

// decode reads what encode wrote and nothing else.
func decode(stored []byte) (a answer, err error) {
	s := cryptobyte.String(stored)
	var sum uint32
	var keyID, annotations cryptobyte.String
	if !s.ReadUint32(&sum) || sum != checksum(s) {
		return a, fmt.Errorf("%w: their checksum is wrong", errStored)
	}
	if !s.ReadUint16LengthPrefixed(&keyID) || !s.ReadUint16LengthPrefixed(&annotations) {
		return a, fmt.Errorf("%w: they end early", errStored)
	}
	a = answer{keyID: string(keyID), ciphertext: s}
	if a.annotations, err = decodeAnnotations(annotations); err == nil {
		err = a.check()
	}
	if err != nil {
		return a, fmt.Errorf("%w: %w", errStored, err)
	}
	return a, nil
}

func decodeAnnotations(s cryptobyte.String) (map[string][]byte, error) {
	var annotations map[string][]byte
	last := ""
	for !s.Empty() {
		var name, value cryptobyte.String
		if !s.ReadUint8LengthPrefixed(&name) || !s.ReadUint16LengthPrefixed(&value) {
			return nil, fmt.Errorf("the annotations end early")
		}
		if string(name) <= last {
			return nil, fmt.Errorf("the annotations are not sorted")
		}
		last = string(name)
		if annotations == nil {
			annotations = make(map[string][]byte)
		}
		annotations[last] = value
	}
	return annotations, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// version returns the id of the version that a plugin calls keyID, which may be longer than a VersionID and hold anything.
func version(keyID string) keyservice.VersionID {
	sum := sha256.Sum256([]byte("trousseau upstream key id\x00" + keyID))
	return keyservice.VersionID(base64.RawURLEncoding.EncodeToString(sum[:16]))
}

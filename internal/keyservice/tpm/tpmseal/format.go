package tpmseal

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// Three files. Numbers are big-endian; str is 2 bytes with a length, then as many bytes. Each file ends with the SHA-256 of
// all bytes before, which tells damage from what was made so, and protects from accidents alone.
//
//	trp1, a sealed key:  "trp1" ‖ object ‖ checksum
//	trg1, a grant:       "trg1" ‖ object ‖ str(seed) ‖ checksum
//	trq1, a request:     "trq1" ‖ x (32) ‖ y (32) of the storage root key ‖ state ‖ checksum
//
//	object:  SHA-256 of the storage root key's x ‖ y (32) ‖ auth, 0 or 1 (1) ‖ state ‖ unique (32) ‖ str(private)
//	state:   PCRs (3), PCR 0 in the lowest bit of the first byte ‖ SHA-256 value (32) of each, by ascending number
const (
	sealedMagic  = "trp1"
	grantMagic   = "trg1"
	requestMagic = "trq1"
	magicSize    = 4
	maxPrivate   = 512 // bytes of str(private) and str(seed): more than any TPM makes for a secret of 128
	maxFileSize  = 4096
)

// ParseSealedKey reads what SealedKey.Encode wrote.
func ParseSealedKey(content []byte) (*SealedKey, error) {
	var s SealedKey
	err := parse(content, sealedMagic, func(b *cryptobyte.String) bool { return s.parse(b) })
	if err != nil {
		return nil, fail("reading the sealed key", err)
	}
	return &s, nil
}

// ParseGrant reads what Grant.Encode wrote.
func ParseGrant(content []byte) (*Grant, error) {
	var g Grant
	err := parse(content, grantMagic, func(b *cryptobyte.String) bool {
		return g.parse(b) && !g.auth && parseString(b, &g.seed)
	})
	if err != nil {
		return nil, fail("reading the grant", err)
	}
	return &g, nil
}

// ParseRequest reads what Request.Encode wrote.
func ParseRequest(content []byte) (*Request, error) {
	var r Request
	err := parse(content, requestMagic, func(b *cryptobyte.String) bool {
		return b.CopyBytes(r.parent[:]) && r.state.parse(b)
	})
	if err != nil {
		return nil, fail("reading the request", err)
	}
	return &r, nil
}

// parse checks what all files have in common. The checksum comes first, so that damage is called damage whatever it hit.
func parse(content []byte, magic string, body func(*cryptobyte.String) bool) error {
	if start := content[:min(len(content), magicSize)]; string(start) != magic[:len(start)] {
		return fmt.Errorf("%w: it does not begin with %q", errInvalid, magic)
	}
	end := len(content) - sha256.Size
	if end < magicSize {
		return fmt.Errorf("%w: %d bytes are too few, its end is missing", errDamaged, len(content))
	}
	if len(content) > maxFileSize {
		return fmt.Errorf("%w: more than %d bytes", errInvalid, maxFileSize)
	}
	if sum := sha256.Sum256(content[:end]); !bytes.Equal(sum[:], content[end:]) {
		return fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	if b := cryptobyte.String(content[magicSize:end]); !body(&b) || !b.Empty() {
		return fmt.Errorf("%w: its fields do not fit its size", errInvalid)
	}
	return nil
}

func (o *object) parse(b *cryptobyte.String) bool {
	var auth uint8
	ok := b.CopyBytes(o.parent[:]) && b.ReadUint8(&auth) && auth <= 1 &&
		o.state.parse(b) && b.CopyBytes(o.unique[:]) && parseString(b, &o.private)
	o.auth = auth == 1
	return ok
}

func (s *state) parse(b *cryptobyte.String) bool {
	var mask [pcrCount / 8]byte
	if !b.CopyBytes(mask[:]) {
		return false
	}
	s.pcrs = PCRs(mask[0]) | PCRs(mask[1])<<8 | PCRs(mask[2])<<16
	s.values = make([][sha256.Size]byte, s.pcrs.count())
	for i := range s.values {
		if !b.CopyBytes(s.values[i][:]) {
			return false
		}
	}
	return true
}

func parseString(b *cryptobyte.String, out *[]byte) bool {
	var s cryptobyte.String
	if !b.ReadUint16LengthPrefixed(&s) || s.Empty() || len(s) > maxPrivate {
		return false
	}
	*out = bytes.Clone(s)
	return true
}

// Encode returns the content of the file with the sealed key.
func (s *SealedKey) Encode() []byte { return encode(sealedMagic, s.encode) }

// Encode returns the content of the file with the grant.
func (g *Grant) Encode() []byte {
	return encode(grantMagic, func(b *cryptobyte.Builder) {
		g.encode(b)
		addString(b, g.seed)
	})
}

// Encode returns the content of the file with the request.
func (r *Request) Encode() []byte {
	return encode(requestMagic, func(b *cryptobyte.Builder) {
		b.AddBytes(r.parent[:])
		r.state.encode(b)
	})
}

func encode(magic string, body func(*cryptobyte.Builder)) []byte {
	b := cryptobyte.NewBuilder([]byte(magic))
	body(b)
	content := b.BytesOrPanic() // no TPM makes a string of 64 KiB
	sum := sha256.Sum256(content)
	return append(content, sum[:]...)
}

func (o *object) encode(b *cryptobyte.Builder) {
	b.AddBytes(o.parent[:])
	auth := uint8(0)
	if o.auth {
		auth = 1
	}
	b.AddUint8(auth)
	o.state.encode(b)
	b.AddBytes(o.unique[:])
	addString(b, o.private)
}

func (s state) encode(b *cryptobyte.Builder) {
	b.AddBytes([]byte{byte(s.pcrs), byte(s.pcrs >> 8), byte(s.pcrs >> 16)})
	for _, value := range s.values {
		b.AddBytes(value[:])
	}
}

func addString(b *cryptobyte.Builder, s []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s) })
}

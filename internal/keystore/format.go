package keystore

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// A keystore file. Numbers are big-endian.
//
//	offset size
//	     0    4  "trk1"
//	     4    1  sealing: 1 passphrase, 2 key, 3 none                 ┐
//	     5    4  argon2id: memory in KiB      ┐                       │
//	     9    1  argon2id: passes             │ zero unless           │ header: the associated
//	    10    1  argon2id: lanes              ┘ a passphrase seals    │ data of the body
//	    11   16  salt, zero if nothing seals                          │
//	    27    2  size n of the body                                   ┘
//	    29    n  body: nonce (12) ‖ AES-256-GCM of the records ‖ tag (16); the bare records if nothing seals
//	  29+n   32  SHA-256 of all bytes before
//
// The header includes the first four bytes. The checksum is of bytes that anybody sees who has the file, so it tells
// nothing about the keys and helps nobody to guess the passphrase: a guess costs an argon2id, with and without it. It is what
// tells damage from a wrong passphrase. It stops nobody who changes the file on purpose: the tag of the body does.
const (
	magic        = "trk1"
	headerSize   = 29
	saltSize     = 16
	checksumSize = sha256.Size
	sealOverhead = 12 + 16
	maxFileSize  = headerSize + sealOverhead + maxVersions*recordSize + checksumSize
)

// sealed is a keystore file taken apart; its slices are parts of the file.
type sealed struct {
	sealing Sealing
	cost    Cost
	salt    []byte
	header  []byte
	body    []byte
}

// parse takes a file apart and checks all that can be checked without opening it. The checksum comes first, so that
// damage is called damage whatever it hit; what is wrong behind a right checksum was made so.
func parse(content []byte) (sealed, error) {
	if start := content[:min(len(content), len(magic))]; string(start) != magic[:len(start)] {
		return sealed{}, fmt.Errorf("%w: it does not begin with %q", ErrInvalid, magic)
	}
	if len(content) < headerSize+checksumSize {
		return sealed{}, fmt.Errorf("%w: %d bytes are too few, its end is missing", ErrDamaged, len(content))
	}
	if len(content) > maxFileSize {
		return sealed{}, fmt.Errorf("%w: more than %d bytes", ErrInvalid, maxFileSize)
	}
	end := len(content) - checksumSize
	if sum := sha256.Sum256(content[:end]); !bytes.Equal(sum[:], content[end:]) {
		return sealed{}, fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	f := sealed{salt: make([]byte, saltSize), header: content[:headerSize]}
	s := cryptobyte.String(content[len(magic):end])
	if !s.ReadUint8((*uint8)(&f.sealing)) || !s.ReadUint32(&f.cost.MemoryKiB) || !s.ReadUint8(&f.cost.Passes) ||
		!s.ReadUint8(&f.cost.Lanes) || !s.CopyBytes(f.salt) || !s.ReadUint16LengthPrefixed((*cryptobyte.String)(&f.body)) ||
		!s.Empty() {
		return sealed{}, fmt.Errorf("%w: its size is not what its header says", ErrInvalid)
	}
	return f, f.check()
}

// check refuses what encode never writes: above all numbers that would make opening the file cost any amount of memory
// and time.
func (f sealed) check() error {
	overhead := sealOverhead
	switch f.sealing {
	case SealingPassphrase:
		if err := f.cost.check(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	case SealingKey:
		if f.cost != (Cost{}) {
			return fmt.Errorf("%w: argon2id parameters, and sealed by a key", ErrInvalid)
		}
	case SealingNone:
		overhead = 0
		if f.cost != (Cost{}) || !bytes.Equal(f.salt, make([]byte, saltSize)) {
			return fmt.Errorf("%w: salt or argon2id parameters, and not sealed", ErrInvalid)
		}
	default:
		return fmt.Errorf("%w: unknown way of sealing %d", ErrInvalid, f.sealing)
	}
	records := len(f.body) - overhead
	if records <= 0 || records%recordSize != 0 || records/recordSize > maxVersions {
		return fmt.Errorf("%w: a body of %d bytes does not hold 1 to %d versions", ErrInvalid, len(f.body), maxVersions)
	}
	return nil
}

func (f sealed) summary() Summary {
	size := len(f.body)
	if f.sealing != SealingNone {
		size -= sealOverhead
	}
	return Summary{Sealing: f.sealing, Cost: f.cost, Count: size / recordSize}
}

// header returns the bytes before a body of the given size.
func header(sealing Sealing, cost Cost, salt []byte, body int) []byte {
	b := cryptobyte.NewFixedBuilder(make([]byte, 0, headerSize))
	b.AddBytes([]byte(magic))
	b.AddUint8(uint8(sealing))
	b.AddUint32(cost.MemoryKiB)
	b.AddUint8(cost.Passes)
	b.AddUint8(cost.Lanes)
	b.AddBytes(salt)
	b.AddUint16(uint16(body)) // maxVersions keeps it below 64 KiB
	return b.BytesOrPanic()
}

// assemble returns the file. It allocates once: a copy of an unsealed body that a growing slice leaves is never wiped.
func assemble(header, body []byte) []byte {
	b := cryptobyte.NewFixedBuilder(make([]byte, 0, len(header)+len(body)+checksumSize))
	b.AddBytes(header)
	b.AddBytes(body)
	sum := sha256.Sum256(b.BytesOrPanic())
	b.AddBytes(sum[:])
	return b.BytesOrPanic()
}

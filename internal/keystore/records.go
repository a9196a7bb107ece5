package keystore

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// The records of a keystore, oldest version first, with nothing between them:
//
//	offset size
//	     0    8  created, in seconds since 1970-01-01 UTC
//	     8    1  state: 0 enabled, 1 open only, 2 disabled
//	     9   32  AES-256 key
const (
	recordSize  = 8 + 1 + keySize
	keySize     = 32
	maxVersions = 1024
)

// maxCreated is the last second of the year 9999, beyond which times have no RFC 3339 form.
const maxCreated = 253402300799

// states are the values of the state byte, which must not change with the constants of package keyservice.
var states = [...]keyservice.State{keyservice.StateEnabled, keyservice.StateOpenOnly, keyservice.StateDisabled}

func record(records []byte, i int) []byte { return records[i*recordSize : (i+1)*recordSize] }

func keyOf(record []byte) []byte { return record[recordSize-keySize:] }

// idOf derives the version id from the key alone, so that it is the same on every node and in every backup. The key has
// 256 bits of randomness: its hash tells nothing about it.
func idOf(key []byte) keyservice.VersionID {
	var sum [sha256.Size]byte
	secretmem.Do(func() {
		h := sha256.New()
		h.Write([]byte("trousseau keystore version\x00"))
		h.Write(key)
		h.Sum(sum[:0])
	})
	return keyservice.VersionID(base64.RawURLEncoding.EncodeToString(sum[:9]))
}

// list returns the versions that the records hold, and refuses what this package never writes.
func list(records *secretmem.Buffer) (versions []keyservice.Version, err error) {
	err = records.Use(func(b []byte) error {
		for ; len(b) > 0; b = b[recordSize:] {
			v, err := version(record(b, 0))
			if err != nil {
				return err
			}
			if slices.ContainsFunc(versions, func(w keyservice.Version) bool { return w.ID == v.ID }) {
				return fmt.Errorf("%w: version %s is in it twice", ErrInvalid, v.ID)
			}
			if n := len(versions); n > 0 && v.Created.Before(versions[n-1].Created) {
				return fmt.Errorf("%w: version %s is older than the one before it", ErrInvalid, v.ID)
			}
			versions = append(versions, v)
		}
		return nil
	})
	return versions, err
}

func version(record []byte) (keyservice.Version, error) {
	created, state := binary.BigEndian.Uint64(record), record[8]
	if created == 0 || created > maxCreated {
		return keyservice.Version{}, fmt.Errorf("%w: a version's time of creation is impossible", ErrInvalid)
	}
	if int(state) >= len(states) {
		return keyservice.Version{}, fmt.Errorf("%w: a version has the unknown state %d", ErrInvalid, state)
	}
	return keyservice.Version{
		ID: idOf(keyOf(record)), Created: time.Unix(int64(created), 0).UTC(), State: states[state],
	}, nil
}

// appended returns the records of old, which may be nil, and one more with a new key.
func appended(old *secretmem.Buffer, created time.Time) (*secretmem.Buffer, error) {
	size := 0
	if old != nil {
		size = old.Size()
	}
	records, err := secretmem.New(size + recordSize)
	if err != nil {
		return nil, err
	}
	err = records.Use(func(to []byte) error {
		binary.BigEndian.PutUint64(to[size:], uint64(created.Unix()))
		rand.Read(keyOf(to[size:]))
		if old == nil {
			return nil
		}
		return old.Use(func(from []byte) error {
			secretmem.Do(func() { copy(to, from) })
			return nil
		})
	})
	if err != nil {
		records.Release()
		return nil, err
	}
	return records, nil
}

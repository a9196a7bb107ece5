// Package keystore is the embedded, encrypted key file: the versions of one key, sealed by a passphrase or a key.
//
// It promises that the keys are in the clear in secretmem alone (and in the file, if it is unsealed), that a
// changed or missing byte anywhere is refused, and that a write is done in full or not at all, also when the disk is full
// or the power fails. It does not hide how many versions there are, nor protect from who has both the file and the secret
// that seals it. The format is described in docs/formats.md.
package keystore

import (
	"crypto/sha256"
	"fmt"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// Store is an opened keystore. Its methods may be called concurrently.
type Store struct {
	summary Summary
	records *secretmem.Buffer // as in the file: see recordSize
	sum     [sha256.Size]byte // of the whole file
}

// Summary is what a keystore holds, without its keys.
type Summary struct {
	Sealing  Sealing
	Cost     Cost                 // zero unless Sealing is SealingPassphrase
	Count    int                  // of versions
	Versions []keyservice.Version // oldest first; nil where the keystore was not opened
}

// Newest returns the last version and the one before it, which is zero where there is none. The Summary must have its
// versions.
func (s Summary) Newest() (newest, previous keyservice.Version) {
	n := len(s.Versions)
	if n > 1 {
		previous = s.Versions[n-2]
	}
	return s.Versions[n-1], previous
}

// Open reads and opens a keystore. The caller releases it.
func Open(path string, sealer Sealer) (*Store, error) {
	store, err := open(path, sealer)
	if err != nil {
		return nil, fmt.Errorf("opening keystore %q: %w", path, err)
	}
	return store, nil
}

func open(path string, sealer Sealer) (*Store, error) {
	content, err := read(path)
	if err != nil {
		return nil, err
	}
	defer secretmem.Wipe(content) // an unsealed one holds the keys
	return decode(content, sealer)
}

// decode opens the content of a keystore file. Even copying a key leaves it in registers, which the runtime saves to the
// stack when it interrupts a goroutine.
func decode(content []byte, sealer Sealer) (store *Store, err error) {
	secretmem.Do(func() { store, err = decodeErased(content, sealer) })
	return store, err
}

// decodeErased is decode inside of secretmem.Do.
func decodeErased(content []byte, sealer Sealer) (*Store, error) {
	sealed, err := parse(content)
	if err != nil {
		return nil, err
	}
	records, err := sealer.open(sealed)
	if err != nil {
		return nil, err
	}
	versions, err := list(records)
	if err != nil {
		records.Release()
		return nil, err
	}
	summary := sealed.summary()
	summary.Versions = versions
	return &Store{summary: summary, records: records, sum: sum(content)}, nil
}

// Summary returns what the keystore holds. The caller must not change its versions.
func (s *Store) Summary() Summary { return s.summary }

// Use calls f with the 32-byte AES-256 key of a version. f must not keep it. It returns f's error, or ErrNoVersion,
// or secretmem.ErrReleased.
func (s *Store) Use(id keyservice.VersionID, f func(version keyservice.Version, key []byte) error) error {
	for i, v := range s.summary.Versions {
		if v.ID == id {
			return s.records.Use(func(records []byte) error { return f(v, keyOf(record(records, i))) })
		}
	}
	return ErrNoVersion
}

// Protection returns what keeps the keys out of a memory dump.
func (s *Store) Protection() secretmem.Protection { return s.records.Protection() }

// Fingerprint identifies the content of the file that was opened, for comparing with Fingerprint of a path.
func (s *Store) Fingerprint() [sha256.Size]byte { return s.sum }

// Release wipes the keys, once nobody uses them any more.
func (s *Store) Release() { s.records.Release() }

// Fingerprint reads a keystore file, without opening it, and returns what identifies its content.
func Fingerprint(path string) ([sha256.Size]byte, error) {
	content, err := read(path)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("reading keystore %q: %w", path, err)
	}
	defer secretmem.Wipe(content)
	return sum(content), nil
}

// sum hashes the content of a file, which may hold the keys.
func sum(content []byte) (digest [sha256.Size]byte) {
	secretmem.Do(func() { digest = sha256.Sum256(content) })
	return digest
}

// Peek reads a keystore without opening it: how it is sealed and how many versions it holds. It needs no secret, finds
// accidental damage (not a deliberate change), and returns a Summary without versions.
func Peek(path string) (Summary, error) {
	content, err := read(path)
	if err != nil {
		return Summary{}, fmt.Errorf("reading keystore %q: %w", path, err)
	}
	defer secretmem.Wipe(content)
	var f sealed
	secretmem.Do(func() { f, err = parse(content) })
	if err != nil {
		return Summary{}, fmt.Errorf("reading keystore %q: %w", path, err)
	}
	return f.summary(), nil
}

// Verify opens a keystore and returns what it holds: proof that the file is whole and that the sealer opens it.
func Verify(path string, sealer Sealer) (Summary, error) {
	store, err := Open(path, sealer)
	if err != nil {
		return Summary{}, err
	}
	defer store.Release()
	return store.Summary(), nil
}

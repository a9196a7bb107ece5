package keystore

import "crypto/sha256"

// Checksummed returns content with its last bytes replaced by the right checksum.
func Checksummed(content []byte) []byte {
	if len(content) < checksumSize {
		return content
	}
	content = content[:len(content)-checksumSize]
	sum := sha256.Sum256(content)
	return append(content[:len(content):len(content)], sum[:]...)
}

// Encode returns a file with the versions of the store.
func (s *Store) Encode(sealer Sealer) ([]byte, error) { return sealer.seal(s.records) }

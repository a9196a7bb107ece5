package envelope

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

const rootSize = 32

// Seal seals plaintext under p with the given version of each key, by slot. The envelope's key id, which KeyID gives,
// is the one of these versions unless a service that cannot choose took another. Errors are those of the key services, and
// Corrupt for an answer that could not be stored.
func (p *Policy) Seal(ctx context.Context, versions []keyservice.VersionID, plaintext []byte) (*Envelope, error) {
	root := make([]byte, rootSize)
	defer clear(root)
	rand.Read(root)

	// With 1 of 1 the share is the root.
	wrapped, err := p.members[0].Key.Wrap(ctx, versions[0], root, p.shareAAD(0))
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if n := len(wrapped.Version); n < 1 || n > keyservice.MaxVersionIDSize || len(wrapped.Bytes) == 0 {
		return nil, &keyservice.Error{
			Kind: keyservice.Corrupt, Op: "sealing", Err: fmt.Errorf("key %s answered with a version of %d bytes and %d wrapped bytes", p.members[0].ID, n, len(wrapped.Bytes)),
			Hint: "what it answered could not be opened again: look at the key service",
		}
	}
	e := &Envelope{
		ClusterTag: p.cluster.tag(),
		PolicyTag:  [8]byte(p.hash[:]),
		Need:       uint8(p.need),
		Keys:       uint8(len(p.members)),
		Shares:     []Share{{Slot: 0, Version: wrapped.Version, Wrapped: wrapped.Bytes}},
	}
	header, err := e.authenticated()
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	secretmem.Do(func() {
		var aead cipher.AEAD
		if aead, err = p.contentCipher(root); err == nil {
			e.Seal = aead.Seal(nil, make([]byte, aead.NonceSize()), plaintext, header)
		}
	})
	return e, err
}

// contentCipher returns the cipher that seals the plaintext. A root seals once, so the nonce is always zero.
func (p *Policy) contentCipher(root []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, root, nil, p.contentInfo(), 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

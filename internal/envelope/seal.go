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

// Seal seals plaintext under p with the given version of each key, by slot; a key whose version is "" takes no part. What
// took part, by Versions of the envelope, is what was asked for, unless a service that cannot choose took another version, or
// a key failed and the policy does not need it to seal. Errors are those of the key services, and Corrupt for an answer that
// could not be stored.
func (p *Policy) Seal(ctx context.Context, versions []keyservice.VersionID, plaintext []byte) (*Envelope, error) {
	root := make([]byte, rootSize)
	defer clear(root)
	rand.Read(root)
	shares, err := p.wrap(ctx, versions, split(root, p.need, len(p.members)))
	if err != nil {
		return nil, err
	}
	e := &Envelope{
		ClusterTag: p.cluster.tag(),
		PolicyTag:  [8]byte(p.hash[:]),
		Need:       uint8(p.need),
		Keys:       uint8(len(p.members)),
		Shares:     shares,
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

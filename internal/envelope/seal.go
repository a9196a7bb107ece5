package envelope

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const rootSize = 32

// Seal seals plaintext under p with the given version of each key, by slot; a key whose version is "" takes no part. What
// took part, by Versions of the envelope, is what was asked for, unless a service that cannot choose took another version, or
// a key failed and the policy does not need it to seal. Errors are those of the key services, and Corrupt for an answer that
// could not be stored.
func (p *Policy) Seal(ctx context.Context, versions []keyservice.VersionID, plaintext []byte) (*Envelope, error) {
	spare, err := p.Prepare(ctx, versions)
	if err != nil {
		return nil, err
	}
	return spare.Seal(plaintext)
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

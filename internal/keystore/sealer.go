package keystore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// Sealing is the way in which a keystore is sealed. The values are those of the file.
type Sealing uint8

const (
	// SealingPassphrase derives the sealing key from a passphrase with argon2id.
	SealingPassphrase Sealing = 1
	// SealingKey derives the sealing key from a random key with HKDF-SHA256.
	SealingKey Sealing = 2
	// SealingNone leaves the keys in the file as they are.
	SealingNone Sealing = 3
)

func (s Sealing) String() string {
	switch s {
	case SealingPassphrase:
		return "passphrase"
	case SealingKey:
		return "key"
	case SealingNone:
		return "none"
	}
	return "unknown"
}

// Least sizes in bytes of what may seal a new file. No human types the passphrase of a daemon, so that it can be long.
const (
	MinPassphraseSize = 16
	MinKeySize        = 32
)

// Sealer seals and opens keystores. It refers to the secret that it was made with, which the caller wipes when the Sealer
// is not needed any more. The zero Sealer seals and opens nothing.
type Sealer struct {
	sealing Sealing
	secret  credential.Secret
	cost    Cost // of sealing; a file says itself what opening it costs
}

// Passphrase returns a Sealer for a secret that may be weaker than a random key. New files cost DefaultCost to open.
func Passphrase(secret credential.Secret) Sealer { return PassphraseAt(DefaultCost(), secret) }

// PassphraseAt is Passphrase with another cost for new files.
func PassphraseAt(cost Cost, secret credential.Secret) Sealer {
	return Sealer{sealing: SealingPassphrase, secret: secret, cost: cost}
}

// Key returns a Sealer for a secret of 32 random bytes or more, in any encoding. It opens in microseconds, and any
// guessable secret would be guessed as fast.
func Key(secret credential.Secret) Sealer { return Sealer{sealing: SealingKey, secret: secret} }

// Unsealed returns the Sealer for files that anybody can open who can read them. They are for development.
func Unsealed() Sealer { return Sealer{sealing: SealingNone} }

// Sealing returns the way in which the Sealer seals.
func (s Sealer) Sealing() Sealing { return s.sealing }

// checkNew refuses secrets and costs that no new file should have.
func (s Sealer) checkNew() error {
	size := len(s.secret.Bytes())
	switch s.sealing {
	case SealingPassphrase:
		if size < MinPassphraseSize {
			return fmt.Errorf("%w: the passphrase has %d bytes, less than %d", ErrWeakSecret, size, MinPassphraseSize)
		}
		return s.cost.check()
	case SealingKey:
		return s.checkKey()
	case SealingNone:
		return nil
	}
	return fmt.Errorf("%w: nothing to seal with", ErrSealing)
}

func (s Sealer) checkKey() error {
	if size := len(s.secret.Bytes()); size < MinKeySize {
		return fmt.Errorf("%w: the key has %d bytes without a final newline, less than %d", ErrWeakSecret, size, MinKeySize)
	}
	return nil
}

// open returns the records in the clear. A file that is sealed in another way is refused, an unsealed one above all: who
// can replace the file must not be able to choose the keys.
func (s Sealer) open(f sealed) (*secretmem.Buffer, error) {
	if s.sealing != f.sealing {
		return nil, fmt.Errorf("%w: the keystore's sealing is %q, asked for %q", ErrSealing, f.sealing, s.sealing)
	}
	if s.sealing == SealingKey {
		if err := s.checkKey(); err != nil {
			return nil, err
		}
	}
	records, err := secretmem.New(f.summary().Count * recordSize)
	if err != nil {
		return nil, err
	}
	err = records.Use(func(clear []byte) error {
		if s.sealing == SealingNone {
			copy(clear, f.body)
			return nil
		}
		return s.with(f.cost, f.salt, func(aead cipher.AEAD) error {
			if _, err := aead.Open(clear[:0], nil, f.body, f.header); err != nil {
				return ErrWrongSecret
			}
			return nil
		})
	})
	if err != nil {
		records.Release()
		return nil, err
	}
	return records, nil
}

// seal returns a keystore file with the records.
func (s Sealer) seal(records *secretmem.Buffer) (content []byte, err error) {
	if err := s.checkNew(); err != nil {
		return nil, err
	}
	secretmem.Do(func() { content, err = s.sealErased(records) })
	return content, err
}

// sealErased is seal inside of secretmem.Do.
func (s Sealer) sealErased(records *secretmem.Buffer) (content []byte, err error) {
	err = records.Use(func(clear []byte) error {
		salt := make([]byte, saltSize)
		if s.sealing == SealingNone {
			content = assemble(header(s.sealing, Cost{}, salt, len(clear)), clear)
			return nil
		}
		rand.Read(salt)
		return s.with(s.cost, salt, func(aead cipher.AEAD) error {
			head := header(s.sealing, s.cost, salt, sealOverhead+len(clear))
			content = assemble(head, aead.Seal(nil, nil, clear, head))
			return nil
		})
	})
	return content, err
}

// with calls f with the cipher under the sealing key, which it derives and wipes. The salt is new for each file, and with
// it the key: a nonce is never used twice. It is called inside of secretmem.Do.
func (s Sealer) with(cost Cost, salt []byte, f func(cipher.AEAD) error) error {
	key, err := s.derive(cost, salt)
	if err != nil {
		return err
	}
	defer secretmem.Wipe(key)
	aead, err := gcm(key)
	if err != nil {
		return err
	}
	return f(aead)
}

func (s Sealer) derive(cost Cost, salt []byte) ([]byte, error) {
	if s.sealing == SealingPassphrase {
		defer giveBack()
		return cost.derive(s.secret.Bytes(), salt), nil
	}
	return hkdf.Key(sha256.New, s.secret.Bytes(), salt, "trousseau keystore trk1", keySize)
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

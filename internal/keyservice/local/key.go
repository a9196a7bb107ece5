// Package local is the key service that needs nothing but a file: a keystore on the node's own disk.
//
// It promises that a wrapped secret opens on every node that has the same keystore, that the keys stay in secretmem, and
// that a keystore that is replaced while the daemon runs is taken over as a whole or not at all. It protects nothing
// from who has the keystore and the secret that seals it, and root of the node has both.
package local

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// overhead is what wrapping adds to a secret: a random nonce (12 bytes) before it, a tag (16 bytes) after it. Random nonces
// allow 2^32 secrets for each version; an API server asks for one when it starts and when a version changes.
const overhead = 12 + 16

// Key is a keystore in use. It implements keyservice.Key and keyservice.Inspector.
type Key struct {
	source Source
	log    *slog.Logger

	mu       sync.RWMutex    // calls hold it for reading while they use the store
	store    *keystore.Store // nil once closed
	rejected rejected        // written by the holder of the token, which need not lock mu to read it

	refreshing chan struct{} // holds one token while the file is being looked at
}

// Open reads the keystore. It fails if the file cannot be opened now: no key service would answer later instead.
func Open(ctx context.Context, config Config, log *slog.Logger) (*Key, error) {
	return OpenFrom(ctx, config.source(), log)
}

// OpenFrom is Open for a keystore that may be sealed by something else than a file.
func OpenFrom(ctx context.Context, source Source, log *slog.Logger) (*Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, source.fail("opening", err)
	}
	store, _, err := source.read(ctx, nil)
	if err != nil {
		return nil, source.fail("opening", err)
	}
	log = log.With("keystore", source.Keystore)
	if source.Secret == nil {
		log.Warn("the keystore is not sealed: whoever copies the file, a disk image or a backup has every key in it; " +
			"this is for development, never for a cluster with secrets")
	}
	if advice := store.Protection().Advice(); advice != "" {
		log.Warn("the keys are poorly protected in memory", "protection", store.Protection().String(), "fix", advice)
	}
	return &Key{source: source, log: log, store: store, refreshing: make(chan struct{}, 1)}, nil
}

// Wrap encrypts with AES-256-GCM.
func (k *Key) Wrap(ctx context.Context, version keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	var wrapped keyservice.Wrapped
	err := k.use(ctx, version, func(v keyservice.Version, key []byte) error {
		if len(secret) == 0 || len(secret) > keyservice.MaxSecretSize {
			return fmt.Errorf("%w: %d bytes", errSize, len(secret))
		}
		if v.State != keyservice.StateEnabled {
			return fmt.Errorf("%w: %s is %s", errDisabled, v.ID, v.State)
		}
		out := make([]byte, 0, len(secret)+overhead) // outside of Do, which would have it erased
		wrapped.Version = v.ID
		return encrypting(key, func(aead cipher.AEAD) error {
			wrapped.Bytes = aead.Seal(out, nil, secret, aad)
			return nil
		})
	})
	if err != nil {
		return keyservice.Wrapped{}, k.source.fail("wrapping with", err)
	}
	return wrapped, nil
}

// Unwrap opens what Wrap of this or another node returned.
func (k *Key) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	var secret []byte
	if wrapped.Version == "" {
		return nil, k.source.fail("unwrapping with", fmt.Errorf("%w: no version is named", keystore.ErrNoVersion))
	}
	err := k.use(ctx, wrapped.Version, func(v keyservice.Version, key []byte) error {
		if v.State == keyservice.StateDisabled {
			return fmt.Errorf("%w: %s is %s", errDisabled, v.ID, v.State)
		}
		if n := len(wrapped.Bytes); n <= overhead || n > keyservice.MaxSecretSize+overhead {
			return fmt.Errorf("%w (%d bytes)", errOpen, n)
		}
		return encrypting(key, func(aead cipher.AEAD) (err error) {
			if secret, err = aead.Open(nil, nil, wrapped.Bytes, aad); err != nil {
				return errOpen
			}
			return nil
		})
	})
	if err != nil {
		return nil, k.source.fail("unwrapping with", err)
	}
	return secret, nil
}

// encrypting calls f with the cipher under key. The expanded key lives in f alone: it would be another copy of the key, in
// memory that dumps hold.
func encrypting(key []byte, f func(cipher.AEAD) error) (err error) {
	secretmem.Do(func() {
		block, e := aes.NewCipher(key)
		if e != nil {
			err = e
			return
		}
		aead, e := cipher.NewGCMWithRandomNonce(block)
		if e != nil {
			err = e
			return
		}
		err = f(aead)
	})
	return err
}

// Versions looks whether the file has changed, takes it over if it has, and returns the newest version in use and the one
// before it. A file that cannot be opened is not this call's error: the versions read before still work. It is
// logged, once, and Inspect reports it.
func (k *Key) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	const op = "listing versions of"
	if err := k.refresh(ctx); err != nil {
		return newest, previous, k.source.fail(op, err)
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.store == nil {
		return newest, previous, k.source.fail(op, errClosed)
	}
	newest, previous = k.store.Summary().Newest()
	return newest, previous, nil
}

// Protection returns what keeps the keys out of a memory dump. It is Ordinary once the key is closed.
func (k *Key) Protection() secretmem.Protection {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.store == nil {
		return secretmem.Ordinary
	}
	return k.store.Protection()
}

// Close wipes the keys once no call uses them.
func (k *Key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.store != nil {
		k.store.Release()
		k.store = nil
	}
	return nil
}

// use calls f with a version and its key. A version that is unknown may be in a file that was replaced since the last
// look: another node already wraps with it.
func (k *Key) use(ctx context.Context, id keyservice.VersionID, f func(keyservice.Version, []byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := k.useNow(id, f)
	if !errors.Is(err, keystore.ErrNoVersion) {
		return err
	}
	if err := k.refresh(ctx); err != nil {
		return err
	}
	return k.useNow(id, f)
}

func (k *Key) useNow(id keyservice.VersionID, f func(keyservice.Version, []byte) error) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.store == nil {
		return errClosed
	}
	if id == "" {
		newest, _ := k.store.Summary().Newest()
		id = newest.ID
	}
	return k.store.Use(id, f)
}

package tpm

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
	"github.com/trousseau-io/trousseau/internal/keystore"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// What follows is for the operator, who runs it on the node that a Config describes.

// Verified is a keystore that opens on this node now.
type Verified struct {
	keystore.Summary
	PCRs tpmseal.PCRs // that have to keep their values
	Auth bool         // an auth file is needed, too
}

// Create writes a new keystore with one version, and its key, sealed to the present values of the PCRs. It never overwrites
// a file. It is done once for a cluster.
func (c Config) Create(ctx context.Context, pcrs tpmseal.PCRs) (keyservice.Version, error) {
	v, err := c.create(ctx, pcrs)
	return v, wrapped("creating a keystore for the TPM", err)
}

func (c Config) create(ctx context.Context, pcrs tpmseal.PCRs) (keyservice.Version, error) {
	for _, path := range []string{c.Keystore, c.SealedKey} {
		if _, err := os.Lstat(path); err == nil {
			return keyservice.Version{}, fmt.Errorf("%q: %w", path, fs.ErrExist)
		}
	}
	key := newKey()
	defer key.Wipe()
	sealed, err := c.seal(ctx, key, pcrs)
	if err != nil {
		return keyservice.Version{}, err
	}
	v, err := keystore.Create(c.Keystore, keystore.Key(key))
	if err != nil {
		return keyservice.Version{}, err
	}
	if err := writeNew(c.SealedKey, sealed.Encode()); err != nil {
		return keyservice.Version{}, errors.Join(err, os.Remove(c.Keystore)) // nothing was wrapped with it yet
	}
	return v, nil
}

// newKey returns 32 random bytes as text, so that a key that is restored from its backup is a key file for any keystore.
func newKey() (key credential.Secret) {
	secretmem.Do(func() {
		random, text := make([]byte, 32), make([]byte, base64.RawStdEncoding.EncodedLen(32))
		rand.Read(random)
		base64.RawStdEncoding.Encode(text, random)
		key = credential.NewSecret(text)
		secretmem.Wipe(random)
		secretmem.Wipe(text)
	})
	return key
}

// seal seals the keystore's key to this node, and has the TPM prove that it opens it.
func (c *Config) seal(ctx context.Context, key credential.Secret, pcrs tpmseal.PCRs) (*tpmseal.SealedKey, error) {
	auth, err := c.auth()
	if err != nil {
		return nil, err
	}
	defer auth.Wipe()
	sealed, err := c.Device.Seal(ctx, key, auth, pcrs)
	if err != nil {
		return nil, err
	}
	again, err := c.Device.Unseal(ctx, sealed, auth)
	if err != nil {
		return nil, err
	}
	defer again.Wipe()
	if !again.Equal(key) {
		return nil, errors.New("the TPM does not return what it was given")
	}
	return sealed, nil
}

// install seals a key that has to open the keystore, and puts it in the place of the sealed key that is there, if any.
func (c *Config) install(ctx context.Context, key credential.Secret, pcrs tpmseal.PCRs) (Verified, error) {
	summary, err := keystore.Verify(c.Keystore, keystore.Key(key))
	if err != nil {
		return Verified{}, fail("opening the keystore with the key", err)
	}
	sealed, err := c.seal(ctx, key, pcrs)
	if err != nil {
		return Verified{}, err
	}
	return Verified{summary, sealed.PCRs(), sealed.NeedsAuth()}, replace(c.SealedKey, sealed.Encode())
}

// withKey calls f with the keystore's key, which it wipes.
func (c *Config) withKey(ctx context.Context, f func(credential.Secret, *tpmseal.SealedKey) error) error {
	sealed, auth, err := c.sealed()
	if err != nil {
		return err
	}
	defer auth.Wipe()
	key, err := c.Device.Unseal(ctx, sealed, auth)
	if err != nil {
		return err
	}
	defer key.Wipe()
	return f(key, sealed)
}

// Verify opens the keystore with the TPM and returns what it holds.
func (c Config) Verify(ctx context.Context) (v Verified, err error) {
	err = c.withKey(ctx, func(key credential.Secret, sealed *tpmseal.SealedKey) error {
		v.PCRs, v.Auth = sealed.PCRs(), sealed.NeedsAuth()
		v.Summary, err = keystore.Verify(c.Keystore, keystore.Key(key))
		return fail("opening the keystore with the key", err)
	})
	return v, err
}

// Rotate adds a version to the keystore, for the time that is delay from now: see keystore.Rotate.
func (c Config) Rotate(ctx context.Context, delay time.Duration) (v keyservice.Version, err error) {
	err = c.withKey(ctx, func(key credential.Secret, _ *tpmseal.SealedKey) error {
		v, err = keystore.Rotate(c.Keystore, keystore.Key(key), delay)
		return err
	})
	return v, err
}

// Reseal seals the key to the present values of other, or the same, PCRs. The key must still open.
func (c Config) Reseal(ctx context.Context, pcrs tpmseal.PCRs) (v Verified, err error) {
	err = c.withKey(ctx, func(key credential.Secret, _ *tpmseal.SealedKey) error {
		v, err = c.install(ctx, key, pcrs)
		return err
	})
	return v, wrapped("sealing the key anew", err)
}

// wrapped says what was tried, or returns nil if err is nil.
func wrapped(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", op, err)
}

package local

import (
	"context"
	"fmt"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

// Source is a keystore, and where the secret that seals it comes from: a file here, a TPM in package tpm.
type Source struct {
	Name     string // of the key service, for errors
	Keystore string // the absolute path
	Secret   Secret // nil if the keystore is not sealed
	Sealer   func(credential.Secret) keystore.Sealer
}

// Secret is a secret that can be read again. Its methods are called by one goroutine at a time; an error that is a
// *keyservice.Error keeps its kind and its hint.
type Secret interface {
	// Fingerprint changes when the secret may have changed. It is cheap.
	Fingerprint() (credential.Fingerprint, error)
	// Read returns the secret, which the caller wipes.
	Read(ctx context.Context) (credential.Secret, error)
}

// secretFile is the Secret in a file.
type secretFile struct{ credential.File }

func (f secretFile) Read(context.Context) (credential.Secret, error) { return f.File.Read() }

// source returns the keystore that the settings name.
func (c *Config) source() Source {
	s := Source{Name: "local", Keystore: c.Keystore}
	switch {
	case c.PassphraseFile != "":
		s.Secret, s.Sealer = secretFile{c.PassphraseFile}, keystore.Passphrase
	case c.KeyFile != "":
		s.Secret, s.Sealer = secretFile{c.KeyFile}, keystore.Key
	default:
		s.Sealer = func(credential.Secret) keystore.Sealer { return keystore.Unsealed() }
	}
	return s
}

// read opens the keystore, unless it would only repeat the attempt last.
func (s *Source) read(ctx context.Context, last *attempt) (store *keystore.Store, of attempt, err error) {
	if s.Secret != nil {
		if of.secret, err = s.Secret.Fingerprint(); err != nil {
			return nil, attempt{}, fmt.Errorf("%w: %w", errSecret, err)
		}
	}
	if of.file, err = keystore.Fingerprint(s.Keystore); err != nil {
		return nil, attempt{}, err
	}
	if last != nil && of == *last {
		return nil, of, nil
	}
	var secret credential.Secret
	if s.Secret != nil {
		if secret, err = s.Secret.Read(ctx); err != nil {
			return nil, attempt{}, fmt.Errorf("%w: %w", errSecret, err)
		}
		defer secret.Wipe()
	}
	store, err = keystore.Open(s.Keystore, s.Sealer(secret))
	return store, of, err
}

// Package escrow wraps secrets for age recipients: public keys whose owners can open them without the cluster, and without
// any key service, when everything else is lost.
//
// It promises that the result is an age file that age's own command opens, that nothing here can open it, and that the version
// is made of the recipients alone. Associated data, which age does not have, is bound by its hash in front of the secret,
// which the opener compares. Whoever has the public keys can wrap as well: that a secret opens says nothing about who
// wrapped it.
package escrow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"filippo.io/age"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// bindingSize is how many bytes of SHA-256(aad) stand in front of the secret in what age encrypts.
const bindingSize = 16

func binding(aad []byte) []byte {
	sum := sha256.Sum256(aad)
	return sum[:bindingSize:bindingSize]
}

// Key is a set of recipients. It implements keyservice.Key and keyservice.Inspector.
type Key struct {
	recipients []recipient
	version    keyservice.VersionID
	working    chan struct{} // holds one token while age works
	closed     atomic.Bool
}

var (
	_ keyservice.Key       = (*Key)(nil)
	_ keyservice.Inspector = (*Key)(nil)
)

// Open returns the key that config describes. It runs no plugin.
func Open(_ context.Context, config Config, _ *slog.Logger) (*Key, error) {
	recipients, err := config.parse()
	if err != nil {
		return nil, fail("opening escrow key", fmt.Errorf("%w: %w", errConfig, err))
	}
	return &Key{recipients: recipients, version: version(recipients), working: make(chan struct{}, 1)}, nil
}

// Wrap encrypts for all recipients. A plugin that hangs keeps Wrap from working, and one goroutine and itself alive, until its
// process ends: age offers no way to end it.
func (k *Key) Wrap(ctx context.Context, version keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	const op = "wrapping with escrow key"
	if err := k.usable(ctx); err != nil {
		return keyservice.Wrapped{}, fail(op, err)
	}
	if version != "" && version != k.version {
		return keyservice.Wrapped{}, fail(op, fmt.Errorf("%w: %s", errVersion, k.version))
	}
	if len(secret) == 0 || len(secret) > keyservice.MaxSecretSize {
		return keyservice.Wrapped{}, fail(op, fmt.Errorf("%w: %d bytes", errSize, len(secret)))
	}
	file, err := k.encrypt(ctx, append(binding(aad), secret...))
	if err != nil {
		return keyservice.Wrapped{}, fail(op, err)
	}
	return keyservice.Wrapped{Version: k.version, Bytes: file}, nil
}

// encrypt takes content over and wipes it. One call at a time works, and works on when its context ends.
func (k *Key) encrypt(ctx context.Context, content []byte) (file []byte, err error) {
	select {
	case k.working <- struct{}{}:
	case <-ctx.Done():
		clear(content)
		return nil, ctx.Err()
	}
	done := make(chan struct{})
	var out []byte
	var outErr error
	go func() {
		defer close(done)
		defer func() { <-k.working }()
		defer clear(content)
		out, outErr = encrypt(content, k.recipients)
	}()
	select {
	case <-done:
		return out, outErr
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func encrypt(content []byte, recipients []recipient) ([]byte, error) {
	var file bytes.Buffer
	w, err := age.Encrypt(&file, plain(recipients)...)
	switch {
	case errors.Is(err, errPlugin), errors.Is(err, errNoPlugin):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errTogether, err)
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return file.Bytes(), nil
}

// Unwrap is Invalid always: see Identities for what opens.
func (k *Key) Unwrap(ctx context.Context, _ keyservice.Wrapped, _ []byte) ([]byte, error) {
	err := k.usable(ctx)
	if err == nil {
		err = errOffline
	}
	return nil, fail("unwrapping with escrow key", err)
}

// Versions returns the one version that the recipients are. When it was made is not known.
func (k *Key) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	if err := k.usable(ctx); err != nil {
		return newest, previous, fail("listing versions of escrow key", err)
	}
	return keyservice.Version{ID: k.version}, previous, nil
}

// Close makes later calls fail.
func (k *Key) Close() error {
	k.closed.Store(true)
	return nil
}

func (k *Key) usable(ctx context.Context) error {
	if k.closed.Load() {
		return errClosed
	}
	return ctx.Err()
}

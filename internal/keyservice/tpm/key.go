// Package tpm is a keystore on the node's own disk that only the node's own TPM 2.0 opens.
//
// The keystore is that of package local: the same file on every node, with the keys of all versions, sealed by a random
// key. That key is sealed on each node to its TPM and the values of some PCRs, in a file beside the keystore. So the package
// promises what local does, and that neither files nor disks nor backups of a node open anything elsewhere, nor on the node
// itself once it has started something else. It protects nothing from root of the node while that runs.
package tpm

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/local"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

// Key is a keystore in use, or one that the TPM has not opened yet. It implements keyservice.Key and keyservice.Inspector.
type Key struct {
	config   Config
	log      *slog.Logger
	unsealer *unsealer

	opening chan struct{} // holds one token while the TPM is asked

	mu     sync.Mutex // guards what follows
	inner  *local.Key // nil until the TPM has unsealed the keystore's key
	closed bool
}

// Open reads the keystore. It fails if one of the files cannot be used. What the TPM says does not stop a start, because
// other keys may be enough: the Key asks the TPM again when it is called.
func Open(ctx context.Context, config Config, log *slog.Logger) (*Key, error) {
	k := &Key{config: config, log: log, unsealer: &unsealer{config: config}, opening: make(chan struct{}, 1)}
	if _, err := k.opened(ctx); err != nil {
		if ctx.Err() != nil || k.unsealer.refused().err == nil {
			_ = k.Close()
			return nil, err
		}
		log.Error("the TPM does not open the keystore", "error", err, "hint", keyservice.HintOf(err))
	}
	return k, nil
}

// opened returns the key of package local, which it opens if the TPM lets it. One call at a time asks the TPM; that goes on
// when the call's context ends, because a TPM can take longer than a request may.
func (k *Key) opened(ctx context.Context) (*local.Key, error) {
	if inner, err := k.now(ctx); inner != nil || err != nil {
		return inner, err
	}
	select {
	case k.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, closedOrEnded(ctx)
	}
	if inner, err := k.now(ctx); inner != nil || err != nil {
		<-k.opening
		return inner, err
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-k.opening }()
		done <- k.open(context.WithoutCancel(ctx))
	}()
	select {
	case err := <-done:
		if err != nil {
			return nil, err
		}
		return k.now(ctx)
	case <-ctx.Done():
		return nil, closedOrEnded(ctx)
	}
}

// open is opened for the holder of the token.
func (k *Key) open(ctx context.Context) error {
	source := local.Source{Name: "tpm", Keystore: k.config.Keystore, Secret: k.unsealer, Sealer: keystore.Key}
	waited := k.unsealer.refused().err != nil
	inner, err := local.OpenFrom(ctx, source, k.log)
	if err != nil {
		return advise(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return inner.Close()
	}
	k.inner = inner
	if waited {
		k.log.Info("the TPM has opened the keystore")
	}
	return nil
}

// now returns what is there without asking the TPM.
func (k *Key) now(ctx context.Context) (*local.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || ctx.Err() != nil {
		return nil, closedOrEnded(ctx)
	}
	return k.inner, nil
}

var errClosed = errors.New("the key is closed")

func closedOrEnded(ctx context.Context) error {
	cause, hint := ctx.Err(), "the TPM took too long: see who else uses it"
	if cause == nil {
		cause, hint = errClosed, "this daemon is shutting down or reloading; try again"
	}
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: "asking tpm key", Hint: hint, Err: cause}
}

// Wrap encrypts with AES-256-GCM, without the TPM.
func (k *Key) Wrap(ctx context.Context, version keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	inner, err := k.opened(ctx)
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	return inner.Wrap(ctx, version, secret, aad)
}

// Unwrap opens what Wrap of this or another node returned. It needs the TPM only for a keystore that was replaced.
func (k *Key) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	inner, err := k.opened(ctx)
	if err != nil {
		return nil, err
	}
	return inner.Unwrap(ctx, wrapped, aad)
}

// Versions returns the newest version in use and the one before it, after a look whether the keystore was replaced. If the
// TPM does not open that one, the versions read before stay in use.
func (k *Key) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	inner, err := k.opened(ctx)
	if err != nil {
		return newest, previous, err
	}
	return inner.Versions(ctx)
}

// Close wipes the keys once no call uses them.
func (k *Key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.inner != nil {
		return k.inner.Close()
	}
	return nil
}

//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	maxSessions  = 16   // of one key, and how many calls a module that hangs can keep
	maxWrapped   = 2048 // bytes that are sent to be unwrapped; RSA with 16,384 bits makes as many
	closeTimeout = time.Second
)

// Key is one key in a token. It implements keyservice.Key and keyservice.Inspector.
type Key struct {
	config    Config
	keyID     []byte // CKA_ID, if that names the key
	mechanism mechanism
	log       *slog.Logger
	module    *module

	slots  chan struct{} // has an element for each call in the module
	closed chan struct{}
	once   sync.Once // of Close

	mu        sync.Mutex
	idle      []session
	known     known
	restarted time.Time // when this key last restarted the module; zero while all is well
}

var (
	_ keyservice.Key       = (*Key)(nil)
	_ keyservice.Inspector = (*Key)(nil)
)

// Open returns the key that config describes. It loads no module and reads no PIN: both happen at the first call, so that
// an HSM that is away stops no daemon from starting. A configuration that can never work is Invalid.
func Open(_ context.Context, config Config, log *slog.Logger) (*Key, error) {
	keyID, err := config.check()
	if err != nil {
		return nil, err
	}
	return &Key{
		config: config, keyID: keyID, mechanism: config.mechanism(), log: log.With("key", config.ID()),
		module: acquire(config.Module), slots: make(chan struct{}, maxSessions), closed: make(chan struct{}),
	}, nil
}

// Wrap implements keyservice.Key. The key says which version it is in the session that then wraps with it.
func (k *Key) Wrap(ctx context.Context, version keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	const op = "wrapping"
	if len(secret) == 0 || len(secret) > keyservice.MaxSecretSize {
		return keyservice.Wrapped{}, k.fail(op, fmt.Errorf("%w: %d bytes", errSize, len(secret)))
	}
	aad = bytes.Clone(aad)
	var by keyservice.VersionID // another goroutine's until do returns no error
	out, err := k.do(ctx, op, secret, func(s session, secret []byte) ([]byte, error) {
		key, id, err := k.sealing(s, version)
		if err != nil {
			return nil, err
		}
		by = id
		return k.mechanism.seal(s, key, secret, aad)
	})
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	return keyservice.Wrapped{Version: by, Bytes: out}, nil
}

// Unwrap implements keyservice.Key.
func (k *Key) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	const op = "unwrapping"
	if n := len(wrapped.Bytes); n == 0 || n > maxWrapped {
		return nil, k.fail(op, fmt.Errorf("%w: they are %d", errOpen, n))
	}
	aad = bytes.Clone(aad)
	return k.do(ctx, op, wrapped.Bytes, func(s session, data []byte) ([]byte, error) {
		key, err := k.opening(s, wrapped.Version)
		if err != nil {
			return nil, err
		}
		secret, err := k.mechanism.open(s, key, data, aad)
		if errors.Is(err, errOpen) {
			return nil, k.whyShut(s, key, wrapped.Version, err)
		}
		return secret, err
	})
}

// whyShut returns the error for bytes that do not open. Many modules say no more than CKR_GENERAL_ERROR, of a changed byte as
// of a token that has failed: if the key is the version and opens what it has just wrapped, it is the bytes. Of a key that
// may not wrap any more, that it says which version it is has to do.
func (k *Key) whyShut(s session, key p11.ObjectHandle, version keyservice.VersionID, cause error) error {
	if err := k.is(s, key, version); err != nil {
		return err
	}
	own, err := k.mechanism.seal(s, key, constant, nil)
	if err == nil {
		_, err = k.mechanism.open(s, key, own, nil)
	}
	code, failed := errors.AsType[p11.Error](err)
	if !failed || judge(code).kind == keyservice.Disabled {
		return cause
	}
	return code
}

// Versions implements keyservice.Key. Created is CKA_START_DATE at midnight UTC, where the key has one: with a date that
// lies ahead, all nodes adopt the version at the same moment.
func (k *Key) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	var found [2]keyservice.Version // another goroutine's until do returns no error
	_, err = k.do(ctx, "listing versions", nil, func(s session, _ []byte) ([]byte, error) {
		found = [2]keyservice.Version{}
		all, err := k.candidates(s)
		if err != nil {
			return nil, err
		}
		if found[0], err = k.describe(s, all[len(all)-1]); err != nil || len(all) == 1 {
			return nil, err
		}
		found[1], err = k.describe(s, all[len(all)-2])
		if err != nil && judge(err).kind == keyservice.Disabled { // it cannot tell its id: as good as not there
			found[1], err = keyservice.Version{}, nil
		}
		return nil, err
	})
	if err != nil {
		return keyservice.Version{}, keyservice.Version{}, err
	}
	return found[0], found[1], nil
}

// fail returns the error of an operation, or nil if err is nil.
func (k *Key) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	j := judge(err)
	return &keyservice.Error{Kind: j.kind, Op: op + " with " + k.config.ID(), Hint: j.hint, Err: err}
}

func (k *Key) isClosed() bool {
	select {
	case <-k.closed:
		return true
	default:
		return false
	}
}

// Close implements keyservice.Key. It does not wait for an HSM that hangs.
func (k *Key) Close() error {
	k.once.Do(func() {
		k.mu.Lock()
		close(k.closed)
		k.mu.Unlock()
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.module.calls.RLock()
			k.forget()
			k.module.calls.RUnlock()
			k.module.release()
		}()
		select {
		case <-done:
		case <-time.After(closeTimeout):
		}
	})
	return nil
}

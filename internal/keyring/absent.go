package keyring

import (
	"context"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// againAfter is how long after it failed the opening of a key is tried again.
const againAfter = 5 * time.Second

// absent is a key that could not be opened yet. Calls fail with the reason, until one has opened it.
type absent struct {
	open func() (keyservice.Key, error)

	mu     sync.Mutex // guards the following
	key    keyservice.Key
	err    error
	tried  time.Time
	closed bool
}

// get returns the key if it is open, or can be opened now.
func (a *absent) get() (keyservice.Key, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.key == nil && !a.closed && time.Since(a.tried) >= againAfter {
		a.key, a.err = a.open()
		a.tried = time.Now()
	}
	if a.key == nil {
		return nil, a.err
	}
	return a.key, nil
}

func (a *absent) Wrap(ctx context.Context, version keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	key, err := a.get()
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	return key.Wrap(ctx, version, secret, aad)
}

func (a *absent) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	key, err := a.get()
	if err != nil {
		return nil, err
	}
	return key.Unwrap(ctx, wrapped, aad)
}

func (a *absent) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	key, err := a.get()
	if err != nil {
		return keyservice.Version{}, keyservice.Version{}, err
	}
	return key.Versions(ctx)
}

func (a *absent) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.key == nil {
		return nil
	}
	return a.key.Close()
}

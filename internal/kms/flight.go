package kms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"sync"

	"golang.org/x/crypto/cryptobyte"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/secretmem"
	"github.com/trousseau-io/trousseau/internal/seedstore"
)

// flights lets equal opens that are under way at the same time share one call: an API server that starts asks for the same
// seed many times at once.
type flights struct {
	mu     sync.Mutex
	flying map[seedstore.ID]*flight
}

// flight is one open. It goes on until its last waiter has left.
type flight struct {
	land      context.CancelFunc
	landed    chan struct{} // closed when the next two are set
	plaintext []byte
	err       error
	waiters   int // guarded by flights.mu; the plaintext is wiped when it gets to 0
}

// do returns what open returns for equal requests, to each caller its own copy. A caller whose context ends gets its error and
// leaves the others the flight.
func (f *flights) do(ctx context.Context, sealed Sealed, open func(context.Context) ([]byte, error)) ([]byte, error) {
	id := sealed.hash()
	flying := f.board(ctx, id, open)
	defer f.leave(id, flying)
	select {
	case <-flying.landed:
		var plaintext []byte
		secretmem.Do(func() { plaintext = bytes.Clone(flying.plaintext) })
		return plaintext, flying.err
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

// board joins the flight of that id, or starts it.
func (f *flights) board(ctx context.Context, id seedstore.ID, open func(context.Context) ([]byte, error)) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flying == nil {
		f.flying = make(map[seedstore.ID]*flight)
	}
	flying := f.flying[id]
	if flying == nil {
		ctx, land := context.WithCancel(context.WithoutCancel(ctx))
		flying = &flight{land: land, landed: make(chan struct{})}
		f.flying[id] = flying
		go func() {
			plaintext, err := open(ctx)
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.flying[id] == flying {
				delete(f.flying, id) // who comes later wants to know what is true then
			}
			if flying.waiters == 0 {
				clear(plaintext)
				return
			}
			flying.plaintext, flying.err = plaintext, err
			close(flying.landed)
		}()
	}
	flying.waiters++
	return flying
}

func (f *flights) leave(id seedstore.ID, flying *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if flying.waiters--; flying.waiters > 0 {
		return
	}
	flying.land()
	clear(flying.plaintext)
	if f.flying[id] == flying {
		delete(f.flying, id)
	}
}

// hash is equal for equal requests alone.
func (s Sealed) hash() seedstore.ID {
	var b cryptobyte.Builder
	for _, part := range [][]byte{[]byte(s.KeyID), s.Ciphertext, s.Annotations[envelope.SharesAnnotation]} {
		b.AddUint32LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(part) })
	}
	return sha256.Sum256(b.BytesOrPanic())
}

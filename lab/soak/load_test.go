package soak_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/kmsclient"
)

// load is what callers have done and seen. Its methods may be called concurrently.
type load struct {
	mu       sync.Mutex
	sealings []sealing
	wrong    []string
	encrypts calls
	decrypts calls
}

// sealing is a seed and what it was sealed as.
type sealing struct {
	seed   []byte
	sealed kmsclient.Sealed
}

// calls counts calls since they were last reset.
type calls struct {
	made, failed int
	slowest      time.Duration // of those that did not fail
	lastFailure  time.Time     // when a call ended that failed
	err          error         // of that call
}

func (c *calls) note(took time.Duration, err error) {
	c.made++
	if err == nil {
		c.slowest = max(c.slowest, took)
		return
	}
	c.failed, c.lastFailure, c.err = c.failed+1, time.Now(), err
}

// since resets the counts, and returns those since the last reset.
func (l *load) since() (encrypts, decrypts calls) {
	l.mu.Lock()
	defer l.mu.Unlock()
	encrypts, decrypts = l.encrypts, l.decrypts
	l.encrypts, l.decrypts = calls{}, calls{}
	return encrypts, decrypts
}

// encrypt seals new seeds until ctx ends, with a pause between them.
func (l *load) encrypt(ctx context.Context, client *kmsclient.Client, random *rand.Rand, pause time.Duration) {
	for n := 0; ctx.Err() == nil; n++ {
		seed := make([]byte, 32)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		began := time.Now()
		sealed, err := client.Encrypt(ctx, fmt.Sprintf("soak-%d", n), bytes.Clone(seed))
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.encrypts.note(time.Since(began), err)
		if err == nil {
			l.sealings = append(l.sealings, sealing{seed, sealed})
		}
		l.mu.Unlock()
		time.Sleep(pause)
	}
}

// decrypt opens what was sealed, at random, until ctx ends.
func (l *load) decrypt(ctx context.Context, client *kmsclient.Client, random *rand.Rand, pause time.Duration) {
	for ctx.Err() == nil {
		l.mu.Lock()
		var s sealing
		if n := len(l.sealings); n > 0 {
			s = l.sealings[random.IntN(n)]
		}
		l.mu.Unlock()
		if s.seed != nil {
			began := time.Now()
			err := l.open(ctx, client, s)
			if ctx.Err() != nil {
				return
			}
			l.mu.Lock()
			l.decrypts.note(time.Since(began), err)
			l.mu.Unlock()
		}
		time.Sleep(pause)
	}
}

// open opens one sealing, and keeps a wrong answer.
func (l *load) open(ctx context.Context, client *kmsclient.Client, s sealing) error {
	seed, err := client.Decrypt(ctx, "soak", s.sealed)
	if err == nil && !bytes.Equal(seed, s.seed) {
		l.mu.Lock()
		l.wrong = append(l.wrong, fmt.Sprintf("at %s, under %s", time.Now().Format(time.TimeOnly), s.sealed.KeyID))
		l.mu.Unlock()
	}
	return err
}

// openAll opens everything that was ever sealed, and returns how many that is and why some do not open.
func (l *load) openAll(ctx context.Context, client *kmsclient.Client) (sealed int, lost []error) {
	const workers = 8
	var (
		opening sync.WaitGroup
		mu      sync.Mutex // guards lost
	)
	for i := range workers {
		opening.Go(func() {
			for n := i; n < len(l.sealings); n += workers {
				if err := l.open(ctx, client, l.sealings[n]); err != nil {
					mu.Lock()
					lost = append(lost, err)
					mu.Unlock()
				}
			}
		})
	}
	opening.Wait()
	return len(l.sealings), lost
}

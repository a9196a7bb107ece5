package keyservice

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Middleware surrounds one call to a key service. op is "wrap", "unwrap" or "versions"; next makes the call, and may be
// called again.
type Middleware func(ctx context.Context, op string, next func(context.Context) error) error

// With returns key with each call surrounded by the middleware, the first one outermost. Close is not surrounded.
func With(key Key, middleware ...Middleware) Key {
	for i := len(middleware) - 1; i >= 0; i-- {
		key = &surrounded{key, middleware[i]}
	}
	return key
}

type surrounded struct {
	Key
	around Middleware
}

func (s *surrounded) Wrap(ctx context.Context, version VersionID, secret, aad []byte) (wrapped Wrapped, err error) {
	err = s.around(ctx, "wrap", func(ctx context.Context) error {
		wrapped, err = s.Key.Wrap(ctx, version, secret, aad)
		return err
	})
	return wrapped, err
}

func (s *surrounded) Unwrap(ctx context.Context, wrapped Wrapped, aad []byte) (secret []byte, err error) {
	err = s.around(ctx, "unwrap", func(ctx context.Context) error {
		secret, err = s.Key.Unwrap(ctx, wrapped, aad)
		return err
	})
	return secret, err
}

func (s *surrounded) Versions(ctx context.Context) (newest, previous Version, err error) {
	err = s.around(ctx, "versions", func(ctx context.Context) error {
		newest, previous, err = s.Key.Versions(ctx)
		return err
	})
	return newest, previous, err
}

// Timeout ends each call after d, or earlier if the caller's context does.
func Timeout(d time.Duration) Middleware {
	return func(ctx context.Context, _ string, next func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return next(ctx)
	}
}

// Retry repeats a call that failed as Unavailable or Throttled once, after a pause of between half of and the whole of
// the given duration. It does not repeat what its context leaves no time for, and the first error stays the answer then.
func Retry(pause time.Duration) Middleware {
	return func(ctx context.Context, _ string, next func(context.Context) error) error {
		err := next(ctx)
		if err == nil || !KindOf(err).Outage() || ctx.Err() != nil {
			return err
		}
		wait := pause/2 + rand.N(pause/2+1)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < 2*wait {
			return err
		}
		select {
		case <-time.After(wait):
			return next(ctx)
		case <-ctx.Done():
			return err
		}
	}
}

// Limit lets n calls be under way at once. Further ones wait as long as their context lasts, then fail as Unavailable.
func Limit(n int) Middleware {
	slots := make(chan struct{}, n)
	return func(ctx context.Context, op string, next func(context.Context) error) error {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return &Error{
				Kind: Unavailable, Op: "waiting for a place to " + op, Err: context.Cause(ctx),
				Hint: "the key service answers too slowly for the number of calls; look at its latency",
			}
		}
		defer func() { <-slots }()
		return next(ctx)
	}
}

// Observe reports each call with its duration and its error. Calls whose caller went away are not reported: they say
// nothing about the service.
func Observe(report func(op string, took time.Duration, err error)) Middleware {
	return func(ctx context.Context, op string, next func(context.Context) error) error {
		start := time.Now()
		err := next(ctx)
		if !errors.Is(err, context.Canceled) {
			report(op, time.Since(start), err)
		}
		return err
	}
}

package gcpkms

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"cloud.google.com/go/auth"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	loginTimeout = 10 * time.Second
	renewBefore  = 3 * time.Minute // before its end a token is replaced; machines are given another one 4 minutes before
)

// session holds the access token. There is never more than one log in under way, and it does not end when the call that
// needed it does. Nothing runs while nobody calls.
type session struct {
	file credential.File // empty for Application Default Credentials
	log  *slog.Logger

	mu      sync.Mutex
	current *auth.Token // or nil
	kind    string      // of the credential behind current, as its file says
	seen    state       // of the credential at the last log in
	flight  *flight     // those who wait for a log in, or nil
	failing bool        // the log says so already
	closed  bool
}

// flight is one log in under way.
type flight struct {
	done   chan struct{}
	cancel context.CancelFunc
	token  *auth.Token
	err    error
}

// token returns a token that is not the refused one. Where it must be replaced and is still good it stays in use until
// the new one is there: a credential file that was replaced by a bad one does no harm before the token ends.
func (s *session) token(ctx context.Context, refused *auth.Token) (*auth.Token, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, closedError()
	}
	t := s.current
	good := t != nil && t != refused && time.Now().Before(t.Expiry)
	if good && time.Until(t.Expiry) > renewBefore && lookAt(s.source()) == s.seen {
		s.mu.Unlock()
		return t, nil
	}
	f := s.flight
	if f == nil {
		f = s.takeOff(ctx)
	}
	s.mu.Unlock()
	if good {
		return t, nil
	}
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return nil, &keyservice.Error{
			Kind: keyservice.Unavailable, Op: "waiting for an access token", Err: ctx.Err(), Hint: hintLoginSlow,
		}
	}
}

// takeOff starts a log in. The caller holds mu.
func (s *session) takeOff(ctx context.Context) *flight {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loginTimeout)
	f := &flight{done: make(chan struct{}), cancel: cancel}
	s.flight = f
	go func() {
		defer cancel()
		source := s.source()
		seen := lookAt(source)
		token, kind, err := logIn(ctx, source)
		s.land(f, seen, token, kind, err)
	}()
	return f
}

func (s *session) land(f *flight, seen state, token *auth.Token, kind string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(f.done)
	s.flight = nil
	if s.closed {
		f.err = closedError()
		return
	}
	if f.token, f.err = token, err; err != nil {
		if !s.failing {
			s.log.Warn("logging in failed", "error", err, "kind", keyservice.KindOf(err).String())
		}
		s.failing = true
		return
	}
	if s.current == nil || s.failing || seen != s.seen {
		s.log.Info("logged in", "credential", kind, "ends", token.Expiry)
	}
	s.current, s.kind, s.seen, s.failing = token, kind, seen, false
}

// credential returns the kind of the credential in use, or nothing.
func (s *session) credential() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kind
}

// close ends a log in under way and forgets the token.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.current = true, nil
	if s.flight != nil {
		s.flight.cancel()
	}
}

func closedError() error {
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: "using a closed key", Hint: "open the key again"}
}

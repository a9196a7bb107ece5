package vault

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	loginTimeout  = 10 * time.Second
	watchInterval = 5 * time.Second // how soon a replaced credential is noticed
	revokeTimeout = time.Second
	longestWait   = time.Minute      // between two log ins that were asked for by refused calls
	forgetWaits   = 10 * time.Minute // without such a log in, the next one is made at once
)

// errNoOther says that the token which was refused is all that there is for now.
var errNoOther = errors.New("there is no other token")

// session holds the token. One goroutine, run, logs in, renews and watches the credential's files; everybody else asks it
// and waits. So there is never more than one log in under way, and it does not end when the call that needed it does.
type session struct {
	method  method
	servers *servers
	log     *slog.Logger
	wanted  chan struct{} // has an element when run should log in
	stop    context.CancelFunc
	ended   chan struct{} // closed when run has returned
	once    sync.Once     // of close

	mu         sync.Mutex
	current    *token
	flight     *flight // those who wait for a log in, or nil
	closed     bool
	failure    error                  // of the last log in, or nil
	seen       credential.Fingerprint // of the credential at the last log in
	last       time.Time              // when a call last needed a log in
	wait       time.Duration
	notBefore  time.Time // no log in for a refused call before
	badRenewal bool      // the log says so already
}

type flight struct {
	done  chan struct{}
	token *token
	err   error
}

func newSession(ctx context.Context, auth Auth, servers *servers, log *slog.Logger) *session {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // the session outlives the call that opens the key
	s := &session{
		method: auth.method(), servers: servers, log: log,
		wanted: make(chan struct{}, 1), stop: stop, ended: make(chan struct{}),
	}
	go s.run(ctx)
	return s
}

// token returns a token that is not refused, logging in if need be. It returns errNoOther if a log in would give no other
// token or has just been made in vain, so that a policy which denies everything does not become a flood of log ins.
func (s *session) token(ctx context.Context, refused *token) (*token, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, closedError()
	}
	if t := s.current; t != nil && t != refused && !t.expired() {
		s.mu.Unlock()
		return t, nil
	}
	if time.Now().Before(s.notBefore) && (refused != nil || s.failure != nil) && !s.replaced() {
		defer s.mu.Unlock()
		if s.failure != nil {
			return nil, s.failure
		}
		return nil, errNoOther
	}
	f := s.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		s.flight = f
		select {
		case s.wanted <- struct{}{}:
		default: // it is there already
		}
	}
	s.mu.Unlock()

	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, &keyservice.Error{
			Kind: keyservice.Unavailable, Op: "waiting for a log in", Err: ctx.Err(), Hint: hintSlow,
		}
	}
	if f.err == nil && f.token == refused {
		return nil, errNoOther
	}
	return f.token, f.err
}

// replaced reports whether the credential, or a file of TLS, is another one than at the last log in.
func (s *session) replaced() bool {
	now, err := s.method.fingerprint()
	return (err == nil && now != s.seen) || s.servers.stale()
}

func (s *session) run(ctx context.Context) {
	defer close(s.ended)
	watch := time.NewTicker(watchInterval)
	defer watch.Stop()
	for {
		renewal := time.NewTimer(s.untilRenewal())
		select {
		case <-ctx.Done():
			renewal.Stop()
			return
		case <-s.wanted:
			if s.awaited() { // else a renewal ended the flight
				s.slowDown()
				s.land(s.logIn(ctx))
			}
		case <-renewal.C:
			s.renew(ctx)
		case <-watch.C:
			s.watch(ctx)
		}
		renewal.Stop()
	}
}

func (s *session) awaited() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flight != nil
}

// slowDown notes that a call needed a log in. The first two are made as they are asked for: a token that was revoked is
// replaced at once. Then the wait doubles.
func (s *session) slowDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.last.IsZero() || now.Sub(s.last) > forgetWaits:
		s.wait = 0
	case s.wait == 0:
		s.wait = time.Second
	default:
		s.wait = min(2*s.wait, longestWait)
	}
	s.last, s.notBefore = now, now.Add(s.wait/2+rand.N(s.wait/2+1))
}

// logIn gets a token with what the files hold now.
func (s *session) logIn(ctx context.Context) (*token, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	seen, err := s.method.fingerprint()
	if err == nil {
		if err = s.servers.refresh(); err == nil {
			s.mu.Lock()
			s.seen = seen
			s.mu.Unlock()
			return s.method.logIn(ctx, s.servers, s.held())
		}
	}
	return nil, &keyservice.Error{
		Kind: keyservice.Denied, Op: "logging in to vault", Err: err, Hint: "put a credential that works into the file",
	}
}

func (s *session) held() *token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// land ends the flight. A failed log in leaves the old token in place, which may still be good.
func (s *session) land(t *token, err error) {
	s.mu.Lock()
	old := s.current
	if err == nil {
		s.current, s.badRenewal = t, false
	}
	s.failure = nil
	if err != nil && !keyservice.KindOf(err).Outage() {
		s.failure = err // an outage is asked about again by the next call
	} else if err != nil {
		s.notBefore = time.Time{}
	}
	f := s.flight
	s.flight = nil
	s.mu.Unlock()
	if f != nil {
		f.token, f.err = t, err
		close(f.done)
	}
	switch {
	case err != nil:
		s.log.Warn("logging in failed", "error", err, "kind", keyservice.KindOf(err).String())
	case t != old:
		s.log.Info("logged in", "method", s.method.name(), "ttl", t.ttl, "renewable", t.renewable)
	}
}

// watch logs in with a credential that was replaced. The old token stays in use until the new one is there.
func (s *session) watch(ctx context.Context) {
	s.mu.Lock()
	changed := s.current != nil && s.replaced()
	s.mu.Unlock()
	if changed {
		s.log.Info("credential or certificate files changed")
		s.land(s.logIn(ctx))
	}
}

// close ends run, revokes the token if it is ours and wipes it.
func (s *session) close() {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		f := s.flight
		s.flight = nil
		s.mu.Unlock()
		if f != nil {
			f.err = closedError()
			close(f.done)
		}
		s.stop()
		<-s.ended
		t := s.held()
		if t == nil {
			return
		}
		if t.own && !t.expired() {
			s.revoke(t)
		}
		t.wipe()
	})
}

// revoke is best effort: a token that cannot be revoked ends by itself.
func (s *session) revoke(t *token) {
	ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout) // no request's path
	defer cancel()
	r := request{method: "POST", path: "auth/token/revoke-self"}
	if _, err := s.servers.do(ctx, "revoking the token", r.with(t)); err != nil {
		s.log.Info("the token was not revoked", "error", err)
	}
}

func closedError() error {
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: "using a closed key", Hint: "open the key again"}
}

package vault

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// token is a Vault token. Its times belong to the session's goroutine and, for expired, to the session's lock.
type token struct {
	mu     sync.RWMutex // for wiping
	secret credential.Secret

	own       bool          // this key logged in for it, rather than read it from a file
	ttl       time.Duration // at the last log in or renewal; 0 is for ever, or unknown
	granted   time.Duration // the ttl at first: renewals give less when the maximum is near
	renewable bool
	ends      time.Time // zero for never
	renewal   time.Time // when to renew or log in anew; zero for never
}

// newToken takes over secret.
func newToken(secret credential.Secret, own bool) *token { return &token{secret: secret, own: own} }

// header returns the token for one request. The HTTP client needs a string, which nobody can wipe.
func (t *token) header() string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return string(t.secret.Bytes())
}

func (t *token) wipe() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.secret.Wipe()
}

func (t *token) expired() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return !t.ends.IsZero() && time.Now().After(t.ends)
}

// lives sets the time that the token has from now on, and plans its renewal at about two thirds of it. The jitter keeps
// the nodes of a cluster, which were started together, from renewing together.
func (t *token) lives(ttl time.Duration, renewable bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ttl, t.renewable = ttl, renewable
	if t.granted == 0 {
		t.granted = ttl
	}
	t.ends, t.renewal = time.Time{}, time.Time{}
	if ttl > 0 {
		now := time.Now()
		t.ends, t.renewal = now.Add(ttl), now.Add(ttl*6/10+rand.N(ttl*13/100+1))
	}
}

// again plans another try: soon, but not in a tight loop.
func (t *token) again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	pause := max(time.Second, min(time.Until(t.ends)/4, 30*time.Second))
	t.renewal = time.Now().Add(pause/2 + rand.N(pause/2))
}

func (t *token) never() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.renewal = time.Time{}
}

func (t *token) due() time.Time {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.renewal
}

// untilRenewal is long where there is nothing to renew.
func (s *session) untilRenewal() time.Duration {
	if t := s.held(); t != nil && !t.due().IsZero() {
		return max(0, time.Until(t.due()))
	}
	return 24 * time.Hour
}

// renew gives the token more time, or gets another one where it cannot have any.
func (s *session) renew(ctx context.Context) {
	t := s.held()
	if t == nil || t.due().IsZero() || time.Until(t.due()) > 0 {
		return
	}
	var err error
	switch {
	case t.renewable:
		err = s.prolong(ctx, t)
	case t.own:
		err = s.replace(ctx, t)
	default:
		t.never()
		s.log.Warn("the token cannot be renewed and ends", "at", t.ends)
		return
	}
	if err == nil {
		return
	}
	t.again()
	s.mu.Lock()
	told := s.badRenewal
	s.badRenewal = true
	s.mu.Unlock()
	if !told {
		s.log.Warn("renewing the token failed; it is tried again", "error", err, "token_ends", t.ends)
	}
}

// prolong renews the token at the server. Near its maximum lifetime a renewal gives little, or is denied.
func (s *session) prolong(ctx context.Context, t *token) error {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	const op = "renewing the token"
	r := request{method: "POST", path: "auth/token/renew-self", body: map[string]any{}}
	got, err := s.servers.do(ctx, op, r.with(t))
	if err == nil {
		var renewed login
		if renewed, err = got.decodeLogin(op); err == nil {
			t.lives(time.Duration(renewed.Auth.LeaseDuration)*time.Second, renewed.Auth.Renewable)
			s.mu.Lock()
			s.badRenewal = false
			s.mu.Unlock()
		}
	}
	switch {
	case err == nil && (t.ttl == 0 || t.ttl >= t.granted/2):
		return nil
	case err == nil && !t.own:
		s.log.Warn("the token is near its maximum lifetime: replace the file with a new one", "token_ends", t.ends)
		return nil
	case err != nil && (keyservice.KindOf(err).Outage() || !t.own):
		return err
	}
	return s.replace(ctx, t)
}

// replace logs in anew. Who got the old token may still use it: it is left to end by itself.
func (s *session) replace(ctx context.Context, t *token) error {
	fresh, err := s.logIn(ctx)
	if err != nil {
		return err
	}
	if fresh != t {
		s.land(fresh, nil)
	}
	return nil
}

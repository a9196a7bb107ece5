package kms

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// session is the life of one Setup: its keys, what is known of them, and what is announced.
type session struct {
	Setup
	log     *slog.Logger
	watches map[string]*watch // by key id
	probed  chan struct{}     // closed when each key was probed once
	ended   chan struct{}     // closed by retire

	using   sync.Mutex    // guards the next two
	calls   int           // in the session
	retired bool          // no further call may enter
	idle    chan struct{} // closed when it is retired and the last call has left

	announcing sync.Mutex // serialises changes of announced
	announced  atomic.Pointer[announcement]
}

// announcement is what Status says and Encrypt does, together.
type announcement struct {
	versions []keyservice.VersionID // by slot of the sealing policy
	keyID    string
}

// newSession returns the session of a setup. Of an old one, which may be nil, it takes over what is known of its keys.
func newSession(setup Setup, old *session, log *slog.Logger) *session {
	s := &session{
		Setup: setup, log: log, watches: make(map[string]*watch),
		probed: make(chan struct{}), ended: make(chan struct{}), idle: make(chan struct{}),
	}
	for i, policy := range setup.Ring.Policies() {
		for _, m := range policy.Members() {
			w := s.watches[m.ID]
			if w == nil {
				w = newWatch(m.ID, m.Key, setup, log)
				s.watches[m.ID] = w
				if old != nil && old.watches[m.ID] != nil {
					w.inherit(old.watches[m.ID])
				}
			}
			w.seals = w.seals || i == 0
		}
	}
	return s
}

// run probes each key at its own pace until ctx ends or the session is retired.
func (s *session) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case <-s.probed:
	default:
		s.probeAll(ctx)
	}
	var wg sync.WaitGroup
	for _, w := range s.watches {
		wg.Go(func() {
			for w.sleep(ctx, s.ended) {
				w.probe(ctx)
				s.announce()
			}
		})
	}
	wg.Wait()
}

// probeAll probes all keys once, side by side, and announces what that gives.
func (s *session) probeAll(ctx context.Context) {
	var wg sync.WaitGroup
	for _, w := range s.watches {
		wg.Go(func() {
			w.probe(ctx)
			s.announce()
		})
	}
	wg.Wait()
	close(s.probed)
}

// announce makes the versions that the sealing policy's keys have adopted the announced ones. While a key has none,
// what was announced before stays.
func (s *session) announce() {
	s.announcing.Lock()
	defer s.announcing.Unlock()
	policy := s.Ring.Sealing()
	versions := make([]keyservice.VersionID, len(policy.Members()))
	for slot, m := range policy.Members() {
		if versions[slot] = s.watches[m.ID].adoptedVersion(); versions[slot] == "" {
			return
		}
	}
	next := &announcement{versions, policy.KeyID(versions)}
	last := s.announced.Swap(next)
	if last == nil {
		s.log.Info("announcing key id", "key_id", next.keyID, "versions", next.versions)
	} else if last.keyID != next.keyID {
		s.log.Info("announcing another key id", "key_id", next.keyID, "versions", next.versions, "previous_key_id", last.keyID)
	}
}

// announcement returns what is announced, waiting for the first probe if need be.
func (s *session) announcement(ctx context.Context) (*announcement, error) {
	if a := s.announced.Load(); a != nil {
		return a, nil
	}
	select {
	case <-s.probed:
	case <-ctx.Done():
	}
	if a := s.announced.Load(); a != nil {
		return a, nil
	}
	if h := s.health(); h.err != nil {
		return nil, h.err
	}
	return nil, starting()
}

// took announces versions that services chose for themselves in a call to Seal.
func (s *session) took(versions []keyservice.VersionID) *announcement {
	policy := s.Ring.Sealing()
	for slot, m := range policy.Members() {
		s.watches[m.ID].take(versions[slot])
		s.watches[m.ID].wakeUp()
	}
	s.announce()
	return &announcement{versions, policy.KeyID(versions)}
}

// suspect has the keys that were thought to work probed soon, if err is about a service rather than about what it was
// given.
func (s *session) suspect(err error) {
	kind := keyservice.KindOf(err)
	if kind == keyservice.Corrupt || kind == keyservice.Invalid || keyservice.Canceled(err) {
		return
	}
	for _, w := range s.watches {
		if _, err := w.failure(); err == nil {
			w.wakeUp()
		}
	}
}

// opened remembers e as what to probe keys with that only open.
func (s *session) opened(e *envelope.Envelope) {
	policy, err := s.Ring.PolicyOf(e)
	if err != nil || policy == s.Ring.Sealing() {
		return
	}
	for _, share := range e.Shares {
		s.watches[policy.Members()[share.Slot].ID].remember(func(ctx context.Context) error {
			plaintext, err := s.Ring.Open(ctx, e, "")
			clear(plaintext)
			return err
		})
	}
}

// health is how well the sealing policy works.
type health struct {
	state State
	since time.Time // since when it is Closed, if it is
	err   error     // if Closed, of the key that matters most: a decision or damage before an outage
}

func (s *session) health() health {
	policy := s.Ring.Sealing()
	var failed []time.Time
	var worst error
	for _, m := range policy.Members() {
		since, err := s.watches[m.ID].failure()
		if err == nil {
			continue
		}
		failed = append(failed, since)
		if worst == nil || keyservice.KindOf(worst).Outage() {
			worst = err
		}
	}
	spare := len(policy.Members()) - policy.Need()
	switch {
	case len(failed) == 0:
		return health{state: Full}
	case len(failed) <= spare:
		return health{state: Readable}
	}
	slices.SortFunc(failed, time.Time.Compare)
	return health{Closed, failed[spare], worst}
}

// status returns the state, and the error that Status answers with, if any.
func (s *session) status(now time.Time) (State, error) {
	h := s.health()
	if h.err == nil || !keyservice.KindOf(h.err).Outage() || s.announced.Load() == nil {
		return h.state, h.err
	}
	switch {
	case s.Outage == OutageFailOpen:
		return h.state, nil
	case s.Outage == OutageGrace && now.Sub(h.since) < s.Grace:
		return h.state, nil
	}
	return h.state, h.err
}

// enter reports whether a call may use the session; its keys stay open until leave.
func (s *session) enter() bool {
	s.using.Lock()
	defer s.using.Unlock()
	if s.retired {
		return false
	}
	s.calls++
	return true
}

func (s *session) leave() {
	s.using.Lock()
	defer s.using.Unlock()
	s.calls--
	if s.retired && s.calls == 0 {
		close(s.idle)
	}
}

// retire ends run, and returns when no call is in the session and none will be.
func (s *session) retire() {
	close(s.ended)
	s.using.Lock()
	s.retired = true
	if s.calls == 0 {
		close(s.idle)
	}
	s.using.Unlock()
	<-s.idle
}

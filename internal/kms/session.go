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
	keeping *keeping
	live    atomic.Bool       // it is the Plugin's: its notices are true
	watches map[string]*watch // by key id
	probed  chan struct{}     // closed when each key was probed once
	ended   chan struct{}     // closed by retire

	using   sync.Mutex    // guards the next two
	calls   int           // in the session
	retired bool          // no further call may enter
	idle    chan struct{} // closed when it is retired and the last call has left

	started    time.Time
	announcing sync.Mutex // serialises changes of announced
	tried      bool       // each key was probed once; guarded by announcing
	announced  atomic.Pointer[announcement]
}

// announcement is what Status says and Encrypt does, together.
type announcement struct {
	versions []keyservice.VersionID // by slot of the sealing policy
	keyID    string
}

// newSession returns the session of a setup. Of an old one, which may be nil, it takes over what is known of its keys.
func (p *Plugin) newSession(setup Setup, old *session) *session {
	s := &session{
		Setup: setup, log: p.log, keeping: &p.keeping, watches: make(map[string]*watch),
		started: time.Now(), probed: make(chan struct{}), ended: make(chan struct{}), idle: make(chan struct{}),
	}
	setup.Ring.Blame = s.blame
	for i, policy := range setup.Ring.Policies() {
		for _, m := range policy.Members() {
			w := s.watches[m.ID]
			if w == nil {
				w = newWatch(m, setup, p.log)
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
	if s.ColdStart != nil {
		wg.Go(func() { s.lookAfter(ctx) })
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
	s.announcing.Lock()
	s.tried = true
	s.announcing.Unlock()
	s.announce()
	close(s.probed)
}

// backAfter is how long every key must have answered before those that were missing take part in sealing again: a key
// service that comes and goes must not have everything written anew each time.
const backAfter = 10 * time.Minute

// silentAtStart is how long after the start keys are waited for before what can be sealed without them is.
const silentAtStart = 15 * time.Second

// settle decides, while nothing is announced, what becomes of keys that were silent when they were first probed. If enough
// others open, or it may start cold, the version that was last announced stands for such a key; failing that it is missing after a
// while, if the policy seals without it.
func (s *session) settle() {
	policy := s.Ring.Sealing()
	if s.announced.Load() != nil || !s.tried {
		return
	}
	last, noted := s.Hint.load(policy)
	if s.health().state == Closed && !s.startsCold(noted) {
		return
	}
	versions := make([]keyservice.VersionID, len(policy.Members()))
	for slot, m := range policy.Members() {
		s.watches[m.ID].recall(last[m.ID])
		versions[slot], _ = s.watches[m.ID].adoptedVersion()
	}
	if time.Since(s.started) < silentAtStart || !policy.Seals(versions) {
		return
	}
	for slot, m := range policy.Members() {
		if versions[slot] == "" {
			s.watches[m.ID].setMissing(true)
		}
	}
}

// announce makes the versions that the sealing policy's keys have adopted the announced ones, without those that are missing.
// While they are not enough to seal, what was announced before stays.
func (s *session) announce() {
	s.announcing.Lock()
	defer s.announcing.Unlock()
	policy := s.Ring.Sealing()
	s.settle()
	s.takeBack()
	versions := make([]keyservice.VersionID, len(policy.Members()))
	for slot, m := range policy.Members() {
		version, missing := s.watches[m.ID].adoptedVersion()
		if version == "" && !missing {
			return // it is not known yet
		}
		if !missing {
			versions[slot] = version
		}
	}
	if !policy.Seals(versions) {
		return
	}
	next := &announcement{versions, policy.KeyID(versions)}
	last := s.announced.Swap(next)
	if last == nil {
		s.log.Info("announcing key id", "key_id", next.keyID, "versions", next.versions)
	} else if last.keyID != next.keyID {
		s.log.Info("announcing another key id", "key_id", next.keyID, "versions", next.versions, "previous_key_id", last.keyID)
	}
	if last == nil || last.keyID != next.keyID {
		if s.health().state != Closed { // a cold start knows it from there, and must not make it look newer
			s.Hint.save(policy, next.versions, s.log)
		}
		s.noticeKeyID(last, next)
	}
}

// takeOver makes s the session whose notices are true, after old.
func (s *session) takeOver(old *session) {
	s.announcing.Lock()
	defer s.announcing.Unlock()
	s.live.Store(true)
	s.noticeKeyID(old.announced.Load(), s.announced.Load())
}

// noticeKeyID tells of another key id, if it is another one.
func (s *session) noticeKeyID(last, next *announcement) {
	var n Notice
	if last != nil {
		n.Previous = last.keyID
	}
	if next == nil || next.keyID == n.Previous {
		return
	}
	n.Event, n.KeyID = KeyIDChanged, next.keyID
	s.notice(n)
}

func (s *session) notice(n Notice) {
	if s.Notice != nil && s.live.Load() {
		s.Notice(n)
	}
}

// takeBack lets missing keys take part again when all keys have answered for long enough.
func (s *session) takeBack() {
	members := s.Ring.Sealing().Members()
	for _, m := range members {
		if since, err := s.watches[m.ID].failure(); err != nil || time.Since(since) < backAfter {
			return
		}
	}
	for _, m := range members {
		s.watches[m.ID].setMissing(false)
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
	return nil, s.unannounced()
}

// unannounced returns why nothing is announced: a key without which it is not known what to announce.
func (s *session) unannounced() error {
	if h := s.health(); h.err != nil {
		return h.err
	}
	for _, m := range s.Ring.Sealing().Members() {
		if _, err := s.watches[m.ID].failure(); err != nil {
			return err
		}
	}
	return starting()
}

// took announces what took part in a call to Seal: a version that a service chose for itself, or fewer keys than were asked.
func (s *session) took(versions []keyservice.VersionID) *announcement {
	policy := s.Ring.Sealing()
	for slot, m := range policy.Members() {
		if w := s.watches[m.ID]; versions[slot] == "" {
			w.setMissing(true)
		} else {
			w.take(versions[slot])
		}
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
		s.watches[policy.Members()[share.Slot].ID].remember(func(ctx context.Context) error { return policy.Reopen(ctx, share) })
	}
}

// blame notes that a key answered wrong, while others opened an envelope without it.
func (s *session) blame(id string, err error) {
	s.watches[id].blame(err)
}

// health is how well the sealing policy works.
type health struct {
	state State
	since time.Time // since when it is Closed, if it is
	err   error     // if Closed, of the key that matters most: a decision or damage before an outage
}

func (s *session) health() health {
	policy := s.Ring.Sealing()
	var failed []time.Time // of keys that open
	var worst error
	full, spare := true, -policy.Need()
	for _, m := range policy.Members() {
		since, err := s.watches[m.ID].failure()
		full = full && err == nil
		if m.WrapOnly {
			continue
		}
		spare++
		if err == nil {
			continue
		}
		failed = append(failed, since)
		if worst == nil || keyservice.KindOf(worst).Outage() {
			worst = err
		}
	}
	switch {
	case full:
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
	switch {
	case s.announced.Load() == nil: // enough keys may open, and it cannot seal
		return h.state, s.unannounced()
	case h.err == nil || !keyservice.KindOf(h.err).Outage():
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

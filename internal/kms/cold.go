package kms

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/coldstart"
	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/seedstore"
)

const (
	// keepEvery is how often what is kept for a cold start is looked after: a seed is on the disk that long after it was
	// opened.
	keepEvery = 5 * time.Second
	// flushTime bounds the last look, when the daemon ends.
	flushTime = 2 * time.Second
)

// keeping lets things be kept, or not.
type keeping struct {
	mu      sync.RWMutex // held for reading while something is kept
	forgets bool
}

// do calls keep, unless nothing may be kept.
func (k *keeping) do(keep func()) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if !k.forgets {
		keep()
	}
}

// away reports whether fewer than enough of the policy's keys work, and nothing but an outage is the reason: a key that is
// denied or disabled is somebody's decision, which what was kept before must not go around.
func (s *session) away(policy *envelope.Policy, enough int, opens bool) bool {
	working := 0
	for _, m := range policy.Members() {
		_, err := s.watches[m.ID].failure()
		switch {
		case opens && m.WrapOnly:
		case err == nil:
			working++
		case !keyservice.KindOf(err).Outage():
			return false
		}
	}
	return working < enough
}

// startsCold reports whether the versions that were announced at that time may be announced, although too few keys open.
func (s *session) startsCold(announced time.Time) bool {
	policy := s.Ring.Sealing()
	return s.ColdStart != nil && s.away(policy, policy.Need(), true) && time.Since(announced) < s.ColdStart.Life
}

// seal seals with the announced versions, and with the spare root while too few keys answer.
func (s *session) seal(ctx context.Context, announced *announcement, plaintext []byte) (*envelope.Envelope, error) {
	policy := s.Ring.Sealing()
	if s.ColdStart != nil && s.away(policy, policy.AtLeastKeys(), false) {
		switch e, err := s.sealCold(ctx, announced, plaintext); {
		case err == nil:
			return e, nil
		case !errors.Is(err, coldstart.ErrNone):
			s.log.Error("the spare root cannot be used", "error", err)
		}
	}
	e, err := policy.Seal(ctx, announced.versions, plaintext)
	if err != nil {
		s.suspect(err)
	}
	return e, err
}

func (s *session) sealCold(ctx context.Context, announced *announcement, plaintext []byte) (*envelope.Envelope, error) {
	if keyID, _ := s.ColdStart.Spare(); keyID != announced.keyID {
		return nil, coldstart.ErrNone
	}
	encoded, err := s.ColdStart.TakeSpare(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(encoded)
	spare, err := s.Ring.Sealing().ParseSpare(encoded)
	if err != nil {
		return nil, err
	}
	s.log.Warn("too few keys answer: sealing with the spare root, which is used up", "key_id", announced.keyID)
	s.notice(Notice{Event: ColdStartWrap, KeyID: announced.keyID})
	return spare.Seal(plaintext)
}

// open opens e, with what is kept where that is allowed. id stands for the whole request.
func (s *session) open(ctx context.Context, e *envelope.Envelope, sealed Sealed, id seedstore.ID) ([]byte, error) {
	policy, err := s.Ring.PolicyOf(e)
	if err != nil {
		return nil, err
	}
	if s.Cache != nil {
		if seed := s.Cache.Get(id); seed != nil {
			return seed, nil
		}
	}
	if s.ColdStart != nil && s.away(policy, policy.Need(), true) {
		if seed := s.ColdStart.Seed(id); seed != nil {
			s.notice(Notice{Event: ColdStartOpen, KeyID: sealed.KeyID})
			return seed, nil
		}
	}
	plaintext, err := s.Ring.Open(ctx, e, sealed.KeyID)
	if err != nil {
		s.suspect(err)
		return nil, err
	}
	s.opened(e)
	s.keep(id, plaintext)
	return plaintext, nil
}

// keep keeps a seed for later, as far as that was asked for.
func (s *session) keep(id seedstore.ID, seed []byte) {
	s.keeping.do(func() {
		if s.Cache != nil {
			s.Cache.Put(id, seed)
		}
		if s.ColdStart != nil {
			s.ColdStart.KeepSeed(id, seed)
		}
	})
}

// lookAfter keeps a spare root ready, and the files up to date, until ctx ends or the session is retired.
func (s *session) lookAfter(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	told := ""
	for {
		err := s.prepareSpare(ctx)
		s.keeping.do(func() { err = errors.Join(err, s.ColdStart.Flush(ctx)) })
		if text := textOf(err); text != told && ctx.Err() == nil {
			told = text
			if err != nil {
				s.log.Warn("not everything can be kept for a cold start", "error", err, "hint", keyservice.HintOf(err))
			}
		}
		select {
		case <-tick.C:
		case <-s.ended:
			return
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
			defer cancel()
			s.keeping.do(func() { _ = s.ColdStart.Flush(last) }) // best effort: what is lost are the seeds of the last seconds
			return
		}
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// prepareSpare prepares a spare root if there is none for what is announced, or half of its time is over. All keys have to
// take part: nothing may be written under a weaker policy.
func (s *session) prepareSpare(ctx context.Context) error {
	announced := s.announced.Load()
	if announced == nil || s.health().state != Full || slices.Contains(announced.versions, "") {
		return nil
	}
	if keyID, until := s.ColdStart.Spare(); keyID == announced.keyID && time.Until(until) > s.ColdStart.Life/2 {
		return nil
	}
	policy := s.Ring.Sealing()
	spare, err := policy.Prepare(ctx, announced.versions)
	if err != nil {
		return err
	}
	defer spare.Wipe()
	if !slices.Equal(spare.Versions(), announced.versions) {
		return nil // a key failed, or chose for itself: soon something else is announced
	}
	encoded, err := spare.Marshal()
	if err != nil {
		return err
	}
	defer clear(encoded)
	s.keeping.do(func() { err = s.ColdStart.KeepSpare(ctx, announced.keyID, encoded) })
	s.Hint.save(policy, announced.versions, s.log) // the time in it is what a cold start goes by
	return err
}

// forget drops what is kept of seeds and roots.
func (s *session) forget() error {
	if s.Cache != nil {
		s.Cache.Forget()
	}
	if s.ColdStart != nil {
		return s.ColdStart.Forget()
	}
	return nil
}

// close gives the memory of what is kept back.
func (s *session) close() {
	if s.Cache != nil {
		s.Cache.Close()
	}
	if s.ColdStart != nil {
		s.ColdStart.Close()
	}
}

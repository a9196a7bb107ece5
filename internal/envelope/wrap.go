package envelope

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// straggle is how long a key may take when enough others have wrapped their shares, unless that already took longer.
const straggle = 250 * time.Millisecond

// wrapping is what became of one share.
type wrapping struct {
	share Share
	err   error
}

// wrap has each key that takes part wrap its share, all at once, and returns what they made of it, by slot. It wipes the
// secrets. Fewer shares than there are keys are enough if the policy says so.
func (p *Policy) wrap(ctx context.Context, versions []keyservice.VersionID, secrets [][]byte) ([]Share, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan wrapping, len(p.members))
	waiting := 0
	for slot, version := range versions {
		if version == "" {
			clear(secrets[slot])
			continue
		}
		waiting++
		go func() {
			defer clear(secrets[slot]) // not before: the key may be using it
			results <- p.wrapOne(ctx, slot, version, secrets[slot])
		}()
	}
	var (
		shares  []Share
		failed  []error
		late    <-chan time.Time
		started = time.Now()
	)
	for waiting > 0 {
		select {
		case r := <-results:
			waiting--
			if r.err != nil {
				failed = append(failed, r.err)
			} else {
				shares = append(shares, r.share)
			}
			if len(shares)+waiting < p.atLeast {
				return nil, fmt.Errorf("sealing: %w", first(failed))
			}
			if len(shares) == p.atLeast && late == nil {
				late = time.After(max(straggle, time.Since(started)))
			}
		case <-late:
			waiting = 0
		}
	}
	if len(shares) < p.atLeast { // fewer were asked
		return nil, fmt.Errorf("sealing: %w", first(append(failed, &keyservice.Error{
			Kind: keyservice.Unavailable, Op: "sealing", Err: fmt.Errorf("%d of %d keys take part, %d have to", len(shares), len(p.members), p.atLeast),
			Hint: "see the log for why the others do not",
		})))
	}
	slices.SortFunc(shares, func(a, b Share) int { return cmp.Compare(a.Slot, b.Slot) })
	return shares, nil
}

func (p *Policy) wrapOne(ctx context.Context, slot int, version keyservice.VersionID, secret []byte) wrapping {
	m := p.members[slot]
	wrapped, err := m.Key.Wrap(ctx, version, secret, p.shareAAD(slot))
	if err != nil {
		return wrapping{err: err}
	}
	if n := len(wrapped.Version); n < 1 || n > keyservice.MaxVersionIDSize || len(wrapped.Bytes) == 0 {
		return wrapping{err: &keyservice.Error{
			Kind: keyservice.Corrupt, Op: "wrapping with " + m.ID, Err: fmt.Errorf("key %s answered with a version of %d bytes and %d wrapped bytes", m.ID, n, len(wrapped.Bytes)),
			Hint: "what it answered could not be opened again: look at the key service",
		}}
	}
	s := Share{Slot: uint8(slot), Version: wrapped.Version, Wrapped: wrapped.Bytes}
	if p.need > 1 {
		s.Digest = digestOf(secret)
	}
	return wrapping{share: s}
}

// first returns all errors, the one that decides what a caller does first: a decision or damage before an outage, because
// waiting would not help.
func first(failed []error) error {
	slices.SortStableFunc(failed, func(a, b error) int { return cmp.Compare(rank(b), rank(a)) })
	if len(failed) == 1 {
		return failed[0]
	}
	return errors.Join(failed...)
}

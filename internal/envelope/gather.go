package envelope

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// defaultTime stands for the caller's deadline where there is none: what API servers allow by default.
const defaultTime = 3 * time.Second

// answer is what a key answered when it was asked to open its share.
type answer struct {
	index  int // in the order in which keys are asked
	secret []byte
	err    error
}

// gathering is one envelope while its shares are opened.
type gathering struct {
	*Policy
	ring    *Ring
	e       *Envelope
	order   []Share // the key that is to be asked first stands first
	asked   int
	answers chan answer
	started []time.Time
	done    []bool
	right   []share
	wrong   []failed
}

// failed is a key that did not help, and why.
type failed struct {
	id  string
	err error
}

// gather opens the shares of e until the policy's need of them, which try is given, are right. It asks the best keys first,
// each other one when one fails or takes longer than usual, and leaves those that are late. try is called more than once
// only where a share can be judged by nothing else, with 1 of n.
//
// Each key that answered wrong is blamed if the envelope opened all the same. If it did not, it may be the envelope that is
// wrong.
func (r *Ring) gather(ctx context.Context, p *Policy, e *Envelope, try func(root []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := &gathering{Policy: p, ring: r, e: e, order: r.best(p, e.Shares), answers: make(chan answer, len(e.Shares))}
	defer g.leave()
	if len(g.order) < p.need {
		return refuse(fmt.Errorf("%d of its shares can be opened here, %d are needed", len(g.order), p.need),
			"recover it with the identities of the keys that only wrap")
	}
	for range p.need {
		g.ask(ctx)
	}
	for {
		var late <-chan time.Time // never, once all have been asked
		if g.asked < len(g.order) {
			late = time.After(g.patience(ctx))
		}
		select {
		case a := <-g.answers:
			err := g.take(a)
			if err == nil && len(g.right) == p.need {
				var root []byte
				secretmem.Do(func() { root = join(g.right) })
				err = try(root)
				clear(root)
				switch {
				case err == nil:
					g.blame()
					return nil
				case p.need > 1: // shares that match their digests and do not fit together
					return err
				}
				g.wipe()
			}
			if err == nil {
				continue
			}
			if g.wrong = append(g.wrong, failed{p.members[g.order[a.index].Slot].ID, err}); len(g.wrong) > len(g.order)-p.need {
				return g.failure()
			}
			g.ask(ctx)
		case <-late:
			g.ask(ctx)
		}
	}
}

// best returns the shares that can be asked for, in the order in which to do so.
func (r *Ring) best(p *Policy, shares []Share) []Share {
	expected := make([]time.Duration, len(p.members))
	for slot, m := range p.members {
		switch l := r.latencies[m.ID]; {
		case l.failedLately():
			expected[slot] = math.MaxInt64
		case p.patient:
			expected[slot] = time.Duration(p.turns[slot])
		default:
			expected[slot] = l.expected()
		}
	}
	order := slices.DeleteFunc(slices.Clone(shares), func(s Share) bool { return p.members[s.Slot].WrapOnly })
	slices.SortStableFunc(order, func(a, b Share) int { return cmp.Compare(expected[a.Slot], expected[b.Slot]) })
	return order
}

// ask asks the next key, if there is one that was not asked.
func (g *gathering) ask(ctx context.Context) {
	if g.asked == len(g.order) {
		return
	}
	index, s := g.asked, g.order[g.asked]
	g.asked++
	g.started, g.done = append(g.started, time.Now()), append(g.done, false)
	go func() {
		secret, err := g.members[s.Slot].Key.Unwrap(ctx, keyservice.Wrapped{Version: s.Version, Bytes: s.Wrapped}, g.shareAAD(int(s.Slot)))
		g.answers <- answer{index, secret, err}
	}()
}

// take judges an answer as far as it can be judged alone.
func (g *gathering) take(a answer) error {
	s := g.order[a.index]
	g.done[a.index] = true
	if a.err != nil {
		if kind := keyservice.KindOf(a.err); kind != keyservice.Corrupt && kind != keyservice.Invalid && !keyservice.Canceled(a.err) {
			g.latency(s).failedNow() // it is about the key, and not about this envelope
		}
		return fmt.Errorf("opening: %w", a.err)
	}
	g.latency(s).answered(time.Since(g.started[a.index]))
	if err := g.judge(s, a.secret); err != nil {
		clear(a.secret)
		return err
	}
	g.right = append(g.right, share{int(s.Slot), a.secret})
	return nil
}

// judge says what can be said of one opened share by itself.
func (p *Policy) judge(s Share, secret []byte) error {
	digest := digestOf(secret)
	switch {
	case len(secret) != rootSize && p.need == 1:
		return forged(p, fmt.Errorf("its root has %d bytes", len(secret)))
	case p.need > 1 && subtle.ConstantTimeCompare(digest[:], s.Digest[:]) != 1:
		return wrongShare(p.members[s.Slot].ID)
	}
	return nil
}

// Reopen asks one key whether it still opens its share of an envelope, and returns why not.
func (p *Policy) Reopen(ctx context.Context, s Share) error {
	secret, err := p.members[s.Slot].Key.Unwrap(ctx, keyservice.Wrapped{Version: s.Version, Bytes: s.Wrapped}, p.shareAAD(int(s.Slot)))
	defer clear(secret)
	if err != nil {
		return err
	}
	return p.judge(s, secret)
}

// patience returns how long to wait before the next key is asked: as long as the slowest of those that are being waited for
// usually takes, and at most a third of the time that is left. A patient policy waits for that long.
func (g *gathering) patience(ctx context.Context) time.Duration {
	left := defaultTime
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	if g.patient {
		return left / 3
	}
	var usual time.Duration
	for i, s := range g.order[:g.asked] {
		if !g.done[i] {
			usual = max(usual, g.latency(s).patience()-time.Since(g.started[i]))
		}
	}
	return max(min(usual, left/3), leastPatience)
}

func (g *gathering) latency(s Share) *latency { return g.ring.latencies[g.members[s.Slot].ID] }

func (g *gathering) blame() {
	for _, f := range g.wrong {
		if g.ring.Blame != nil && keyservice.KindOf(f.err) == keyservice.Corrupt {
			g.ring.Blame(f.id, f.err)
		}
	}
}

// failure returns why too few shares were opened. What may pass by itself comes first, as the kind of them all: that there
// is something to wait for decides what a caller does.
func (g *gathering) failure() error {
	slices.SortStableFunc(g.wrong, func(a, b failed) int { return cmp.Compare(rank(a.err), rank(b.err)) })
	if len(g.wrong) == 1 {
		return g.wrong[0].err
	}
	var all []error
	for _, f := range g.wrong {
		all = append(all, f.err)
	}
	return errors.Join(all...)
}

func rank(err error) int {
	if keyservice.KindOf(err).Outage() {
		return 0
	}
	return 1
}

// leave wipes what was opened, remembers that late keys are slow, and has late answers wiped when they come.
func (g *gathering) leave() {
	g.wipe()
	late := 0
	for i, s := range g.order[:g.asked] {
		if !g.done[i] {
			g.latency(s).late(time.Since(g.started[i]))
			late++
		}
	}
	if late > 0 {
		go func() {
			for range late {
				clear((<-g.answers).secret)
			}
		}()
	}
}

// wipe forgets the shares that were opened.
func (g *gathering) wipe() {
	for _, s := range g.right {
		clear(s.secret)
	}
	g.right = g.right[:0]
}

func wrongShare(id string) error {
	return &keyservice.Error{
		Kind: keyservice.Corrupt, Op: "unwrapping with " + id, Err: ErrShare,
		Hint: "if other objects open, this one was changed: restore it from a backup; if none does, that key service is broken or hostile",
	}
}

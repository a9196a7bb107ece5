package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	// probeTimeout bounds one probe, which makes up to five calls, and callTimeout each of them: a key that takes longer than
	// API servers wait, 3 s by default, does not work.
	probeTimeout = 15 * time.Second
	callTimeout  = 3 * time.Second
	// failedInterval is how often a key that failed is probed, unless the interval is shorter anyway. API servers ask
	// a failed plugin every 10 s.
	failedInterval = 5 * time.Second
	// wakeInterval is the shortest time between two probes that failed calls asked for.
	wakeInterval = time.Second
)

// probeAAD is bound to what probes wrap, so that it is never mistaken for a share.
var probeAAD = []byte("trousseau probe")

// watch is what is known of one key: whether it works, and which of its versions is adopted.
type watch struct {
	id       string
	key      keyservice.Key
	wrapOnly bool
	pin      keyservice.VersionID
	delay    time.Duration
	interval time.Duration
	seals    bool // set before the first probe
	log      *slog.Logger
	wake     chan struct{}

	probing sync.Mutex // one probe at a time; guards the next five
	adopted keyservice.Version
	witness keyservice.Wrapped // what the adopted version wrapped last
	token   []byte             // what is in the witness: random, worth nothing
	sighted sighting
	unfit   keyservice.VersionID // the newer version that was last tried in vain

	mu      sync.Mutex // guards the following
	current keyservice.VersionID
	newest  keyservice.Version
	err     error
	since   time.Time // when err, or its absence, began
	reopen  func(context.Context) error
	missing bool      // it takes no part in sealing
	wrong   uint64    // answers that were
	blamed  time.Time // when the log was last told of one
}

func newWatch(m envelope.Member, setup Setup, log *slog.Logger) *watch {
	return &watch{
		id: m.ID, key: keyservice.With(m.Key, keyservice.Timeout(callTimeout)), wrapOnly: m.WrapOnly, pin: setup.Pins[m.ID], delay: setup.ActivationDelay, interval: setup.ProbeInterval,
		log: log.With("key", m.ID), wake: make(chan struct{}, 1),
		err: starting(), since: time.Now(),
	}
}

// inherit takes over what an older watch knows of the same key.
func (w *watch) inherit(old *watch) {
	old.probing.Lock()
	w.adopted, w.witness, w.token, w.sighted = old.adopted, old.witness, old.token, old.sighted
	old.probing.Unlock()
	old.mu.Lock()
	w.current, w.newest, w.reopen, w.missing, w.wrong = old.current, old.newest, old.reopen, old.missing, old.wrong
	old.mu.Unlock()
}

// sleep waits until the next probe is due and reports whether it is.
func (w *watch) sleep(ctx context.Context, ended <-chan struct{}) bool {
	interval := w.interval
	if _, err := w.failure(); err != nil {
		interval = min(interval, failedInterval)
	}
	soonest := time.After(min(interval, wakeInterval))
	select {
	case <-time.After(interval):
	case <-w.wake:
		select {
		case <-soonest:
		case <-ended:
			return false
		case <-ctx.Done():
			return false
		}
	case <-ended:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

func (w *watch) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake already
	}
}

// probe finds out whether the key works, and which version to seal with.
func (w *watch) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	w.probing.Lock()
	defer w.probing.Unlock()
	newest, previous, err := w.key.Versions(ctx)
	switch {
	case err != nil:
	case w.seals:
		err = w.probeSealing(ctx, newest, previous)
	default:
		err = w.probeOpening(ctx)
	}
	if err != nil && keyservice.Canceled(err) {
		return // we are stopping: that says nothing about the key
	}
	if errors.Is(err, context.DeadlineExceeded) { // it is no caller's deadline, and says nothing of use
		err = &keyservice.Error{
			Kind: keyservice.Unavailable, Op: "probing", Err: fmt.Errorf("key %s takes longer than %s to answer", w.id, callTimeout),
			Hint: "API servers wait 3 s by default: look at the key service, and at the network before it",
		}
	}
	w.record(newest, err)
}

func (w *watch) probeSealing(ctx context.Context, newest, previous keyservice.Version) error {
	w.sighted = w.sighted.next(newest.ID)
	choice := choose(w.adopted, newest, previous, w.pin, time.Now(), w.delay, w.sighted)
	if w.adopted.ID == "" || choice.ID == w.adopted.ID {
		return w.roundTrip(ctx, choice)
	}
	if w.pin == "" {
		if err := w.checkLineage(ctx); err != nil {
			return err
		}
	}
	err := w.roundTrip(ctx, choice)
	if err == nil || w.pin != "" || w.roundTrip(ctx, w.adopted) != nil {
		return err
	}
	if w.unfit != choice.ID {
		w.unfit = choice.ID
		w.log.Warn("a new version does not work, keeping the one before", "version", choice.ID, "kept", w.adopted.ID, "error", err)
	}
	return nil
}

// checkLineage makes sure that the key still opens what its adopted version wrapped. If not, what is in etcd does not
// open either: the key was deleted and made again, or replaced. Adopting its new version would hide that.
func (w *watch) checkLineage(ctx context.Context) error {
	if len(w.witness.Bytes) == 0 || w.wrapOnly {
		return nil
	}
	token, err := w.key.Unwrap(ctx, w.witness, probeAAD)
	if err != nil && keyservice.KindOf(err).Outage() {
		return err
	}
	if err == nil && bytes.Equal(token, w.token) {
		return nil
	}
	if err == nil {
		err = errors.New("it answers garbage")
	}
	return &keyservice.Error{
		Kind: keyservice.NotFound, Op: "looking for the announced version", Err: fmt.Errorf("key %s has newer versions, but %q is gone: %w", w.id, w.adopted.ID, err),
		Hint: "bring the old key material back; if it is lost for good, set keys[].version to the version to go on with: what the old one sealed stays unreadable",
	}
}

// roundTrip wraps and unwraps a random token with the version, and adopts it if that works. Of a key that only wraps it has
// to believe that what it wraps will open.
func (w *watch) roundTrip(ctx context.Context, version keyservice.Version) error {
	token := make([]byte, 32)
	rand.Read(token)
	wrapped, err := w.key.Wrap(ctx, version.ID, token, probeAAD)
	if err != nil {
		return err
	}
	if !w.wrapOnly {
		back, err := w.key.Unwrap(ctx, wrapped, probeAAD)
		if err != nil {
			return err
		}
		if !bytes.Equal(back, token) {
			return &keyservice.Error{Kind: keyservice.Corrupt, Op: "probing", Err: fmt.Errorf("key %s returns another secret than it was given", w.id), Hint: "the key service is broken or hostile: look at it before anything else"}
		}
	}
	if wrapped.Version != version.ID {
		version = keyservice.Version{ID: wrapped.Version}
	}
	w.adopted, w.witness, w.token = version, wrapped, token
	return nil
}

// probeOpening opens again what the key last helped to open, if anything.
func (w *watch) probeOpening(ctx context.Context) error {
	w.mu.Lock()
	reopen := w.reopen
	w.mu.Unlock()
	if reopen == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return reopen(ctx)
}

// record keeps the outcome of a probe and logs it if it is news.
func (w *watch) record(newest keyservice.Version, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if newest.ID != "" && newest.ID != w.newest.ID {
		if w.newest.ID != "" {
			w.log.Info("key has a new version", "version", newest.ID, "created", newest.Created, "previous", w.newest.ID)
		}
		w.newest = newest
	}
	if w.adopted.ID != "" {
		w.current = w.adopted.ID
	}
	was := w.err
	w.err = err
	if (was == nil) != (err == nil) {
		w.since = time.Now()
	}
	switch {
	case err == nil && was != nil:
		w.log.Info("key works", "version", w.adopted.ID)
	case err != nil && (was == nil || errors.Is(was, errStarting) || keyservice.KindOf(was) != keyservice.KindOf(err)):
		w.log.Warn("key does not work", "kind", keyservice.KindOf(err).String(), "error", err, "hint", keyservice.HintOf(err))
	}
}

// take makes a version that the service chose for itself the one to announce. The next probe adopts it.
func (w *watch) take(version keyservice.VersionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current = version
}

func (w *watch) remember(reopen func(context.Context) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reopen = reopen
}

// adoptedVersion returns the version to seal with, "" if there is none yet, and whether the key takes no part in sealing.
func (w *watch) adoptedVersion() (version keyservice.VersionID, missing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current, w.missing
}

func (w *watch) setMissing(missing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.missing == missing {
		return
	}
	w.missing = missing
	if missing {
		w.log.Warn("key is missing: what is sealed from now on is sealed without it", "until", "all keys have answered for "+backAfter.String(), "error", w.err)
	} else {
		w.log.Info("key takes part in sealing again")
	}
}

// recall makes the version that was last announced stand for that of a key that does not say.
func (w *watch) recall(last keyservice.VersionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == "" && last != "" && w.err != nil {
		w.current = last
		w.log.Warn("key does not work since the start: going on with the version that was last announced", "version", last)
	}
}

// blame notes a wrong answer, has the key probed soon, and tells the log once a minute.
func (w *watch) blame(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong++
	w.wakeUp()
	if now := time.Now(); now.Sub(w.blamed) >= time.Minute {
		w.blamed = now
		w.log.Warn("key answered wrong, others opened without it", "error", err, "wrong_answers", w.wrong)
	}
}

// failure returns why the key does not work and since when, or that it does.
func (w *watch) failure() (since time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since, w.err
}

package daemon

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trousseau-io/trousseau/internal/admin"
	"github.com/trousseau-io/trousseau/internal/lockdown"
)

// lookInterval is how often the marker is looked at so that a locked daemon wipes what it holds, and begins no call. No answer
// waits for that: each call looks for itself at its end.
const lookInterval = 50 * time.Millisecond

const unlockHint = "when it is safe, as root: trousseau unlock"

// lock says whether the node is locked. A reload does not touch it.
type lock struct {
	marker lockdown.Marker
	asked  atomic.Pointer[lockdown.Note] // by the operator, whose marker was not seen; nil if not

	mu       sync.Mutex  // one follow at a time
	followed atomic.Bool // what follow last brought the daemon to
}

func (l *lock) locked() bool { return l.asked.Load() != nil || l.marker.Locked() }

// look returns whether the node is locked, and since when and why.
func (l *lock) look() (note lockdown.Note, locked bool) {
	if l.marker.Locked() {
		return l.marker.Note(), true
	}
	if asked := l.asked.Load(); asked != nil {
		return *asked, true
	}
	return lockdown.Note{}, false
}

// startLock finds out whether the daemon starts locked.
func (d *daemon) startLock() error {
	path, err := filepath.Abs(d.ConfigPath)
	if err != nil {
		return err
	}
	d.lock.marker = lockdown.Of(path, d.config.Socket.Path)
	_, _ = d.follow() // it has logged what it could not wipe
	return nil
}

// refuseLocked refuses every call while the node is locked, Status included. Not even one that was under way succeeds: what it
// was to answer is wiped.
func (d *daemon) refuseLocked(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if d.lock.followed.Load() {
		if err := d.refusal(); err != nil {
			wipe(req)
			return nil, err
		}
	}
	answer, err := handle(ctx, req)
	if err := d.refusal(); err != nil {
		wipe(answer)
		return nil, err
	}
	return answer, err
}

// refusal returns what a caller is told while the node is locked, or nil.
func (d *daemon) refusal() error {
	if note, locked := d.lock.look(); locked {
		return status.Errorf(codes.FailedPrecondition, "%s; %s", note, unlockHint)
	}
	return nil
}

// probe has the plugin probe its keys until ctx ends, except while the node is locked: with a silent daemon, whoever uses its
// credentials then is somebody else.
func (d *daemon) probe(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	unlocked := func() bool {
		locked, _ := d.follow()
		return !locked && ctx.Err() == nil
	}
	wait := func() {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		if !unlocked() {
			wait()
			continue
		}
		probing, stop := context.WithCancel(ctx)
		var running sync.WaitGroup
		running.Go(func() { _ = d.plugin.Run(probing) }) // its error is always nil
		for unlocked() {
			wait()
		}
		stop()
		running.Wait()
	}
	return nil
}

// follow brings the daemon to the state that the marker wants. It returns that, and what could not be wiped. A locked daemon
// is wiped each time: what failed is tried again, and what a reload has brought goes too.
func (d *daemon) follow() (locked bool, failed error) {
	l := &d.lock
	l.mu.Lock()
	defer l.mu.Unlock()
	note, locked := l.look()
	changed := l.followed.Swap(locked) != locked
	if locked {
		failed = d.plugin.Forget()
	}
	switch {
	case changed && locked:
		d.log.Warn("locked down: every call is refused, and what was kept of seeds is wiped", "note", note.String(), "hint", unlockHint)
		d.audit.note("lockdown", slog.String("note", note.String()))
		if failed != nil {
			d.log.Error("something cannot be wiped, and is tried again", "error", failed)
		}
	case changed:
		d.plugin.Resume()
		d.log.Warn("unlocked: calls are answered")
		d.audit.note("unlocked")
	}
	return locked, failed
}

// lockdown answers the operator's tool, which has put the marker. Where the daemon does not see one, as on a disk that takes
// nothing, it is locked until it ends.
func (d *daemon) lockdown(w http.ResponseWriter, r *http.Request) {
	var note lockdown.Note
	if !requested(w, r, &note) {
		return
	}
	if !d.lock.marker.Locked() {
		d.lock.asked.Store(&note)
	}
	d.answerLock(w)
}

// unlock answers the operator's tool, which removes the marker next.
func (d *daemon) unlock(w http.ResponseWriter, r *http.Request) {
	var note lockdown.Note
	if !requested(w, r, &note) {
		return
	}
	d.log.Warn("asked to unlock", "peer", r.RemoteAddr, "reason", note.Reason)
	d.audit.note("unlock", slog.String("peer", r.RemoteAddr), slog.String("reason", note.Reason))
	d.lock.asked.Store(nil)
	d.answerLock(w)
}

func (d *daemon) answerLock(w http.ResponseWriter) {
	locked, failed := d.follow()
	a := admin.LockAnswer{Locked: locked, Seen: d.lock.marker.Locked(), Marker: d.lock.marker}
	if failed != nil {
		a.Failed = failed.Error()
	}
	answer(w, a)
}

package auditlog

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	deniedEvery = time.Minute
	deniedUIDs  = 64 // that are counted by themselves
)

// Denied logs callers that were turned away, without letting them fill the disk: the first of a uid at once, further ones
// in one line a minute with their number. More uids than 64 share a line.
type Denied struct {
	log  *Log
	wake chan struct{}

	mu  sync.Mutex // guards the following
	new map[int64]*denials
}

// denials are those of one uid since the last line about it.
type denials struct {
	count uint64
	pid   int32 // of the last one
	told  bool  // there was a line in this minute or the one before
}

// others stands for all uids that are too many.
const others = -1

// NewDenied returns a Denied that writes to log while Run runs.
func NewDenied(log *Log) *Denied {
	return &Denied{log: log, wake: make(chan struct{}, 1), new: make(map[int64]*denials)}
}

// Add counts a caller. It does not wait for the disk.
func (d *Denied) Add(uid uint32, pid int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := int64(uid)
	if d.new[key] == nil && len(d.new) >= deniedUIDs {
		key = others
	}
	if d.new[key] == nil {
		d.new[key] = new(denials)
	}
	d.new[key].count++
	d.new[key].pid = pid
	select {
	case d.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Run writes the lines until ctx ends, and what is left then.
func (d *Denied) Run(ctx context.Context) {
	minute := time.NewTicker(deniedEvery)
	defer minute.Stop()
	for {
		select {
		case <-ctx.Done():
			d.tell(true)
			return
		case <-d.wake:
			d.tell(false)
		case <-minute.C:
			d.tell(true)
		}
	}
}

// tell writes a line about each uid that there is news of: of all, or of those that had no line for a minute.
func (d *Denied) tell(all bool) {
	for _, fields := range d.take(all) {
		_ = d.log.Append("denied", fields...) // a line that is lost is counted
	}
}

func (d *Denied) take(all bool) (lines [][]slog.Attr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, uid := range slices.Sorted(maps.Keys(d.new)) {
		n := d.new[uid]
		switch {
		case n.count == 0 && all:
			delete(d.new, uid)
		case n.count > 0 && (all || !n.told):
			who := []slog.Attr{slog.Int64("peer_uid", uid), slog.Int("peer_pid", int(n.pid))}
			if uid == others {
				who = []slog.Attr{slog.String("peers", "others")}
			}
			lines = append(lines, append(who, slog.Uint64("callers", n.count)))
			n.count, n.told = 0, true
		}
	}
	return lines
}

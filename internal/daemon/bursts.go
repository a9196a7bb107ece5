package daemon

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/socket"
)

// burstPeers is how many callers of a burst are named.
const burstPeers = 8

// bursts tells of more opens within a minute than a cluster needs. Its methods may be called concurrently.
type bursts struct {
	limit uint64 // 0 for never
	log   *slog.Logger
	count func() // called for each that was told

	mu      sync.Mutex // guards the following
	seconds [60]uint64 // opens in each of the last seconds, by the second's remainder
	newest  int64      // the Unix time of the newest of them
	told    time.Time
	peers   []socket.Peer // since it was told
}

// opened counts an open.
func (b *bursts) opened(caller socket.Peer) {
	if b.limit == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	size := int64(len(b.seconds))
	for b.newest = max(b.newest, now.Unix()-size); b.newest < now.Unix(); {
		b.newest++
		b.seconds[b.newest%size] = 0
	}
	b.seconds[b.newest%size]++
	if len(b.peers) < burstPeers && !slices.Contains(b.peers, caller) {
		b.peers = append(b.peers, caller)
	}
	var opens uint64
	for _, n := range b.seconds {
		opens += n
	}
	if opens <= b.limit || now.Sub(b.told) < time.Minute {
		return
	}
	b.log.Warn("more opens within a minute than a cluster needs", "opens", opens, "limit", b.limit, "peers", b.peers,
		"hint", "an API server opens only when it starts; if none did, find out who these callers are")
	b.count()
	b.told, b.peers = now, nil
}

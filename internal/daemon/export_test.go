package daemon

import (
	"log/slog"

	"github.com/trousseau-io/trousseau/internal/socket"
)

// Codec is for tests.
type Codec = codec

// NewBursts returns what counts opens, and calls count for each burst.
func NewBursts(limit uint64, count func()) (opened func(socket.Peer)) {
	b := &bursts{limit: limit, log: slog.New(slog.DiscardHandler), count: count}
	return b.opened
}

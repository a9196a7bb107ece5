package kmip

import (
	"errors"
	"sync"
	"time"
)

const (
	maxIdle     = 16          // connections per server
	idleTimeout = time.Minute // longer than the pause between two probes
)

var errClosed = errors.New("the key is closed")

// server is one address and its idle connections, the last used at the end.
type server struct {
	address string

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

func (n *server) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

// take returns an idle connection that was made with the given settings, or nil. It closes those that were not, and those
// that have been idle for too long.
func (n *server) take(made *settings) *conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := n.idle[:0]
	for _, c := range n.idle {
		if c.made == made && time.Since(c.idle) < idleTimeout {
			kept = append(kept, c)
		} else {
			c.raw.Close()
		}
	}
	n.idle = kept
	if len(kept) == 0 {
		return nil
	}
	n.idle = kept[:len(kept)-1]
	return kept[len(kept)-1]
}

// put gives a connection back that served its request.
func (n *server) put(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || len(n.idle) == maxIdle {
		c.raw.Close()
		return
	}
	c.idle = time.Now()
	n.idle = append(n.idle, c)
}

func (n *server) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for _, c := range n.idle {
		c.raw.Close()
	}
	n.idle = nil
}

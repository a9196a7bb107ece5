package socket

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// maxBound is how many sockets are listened on at once: the one in place and those before it whose file was removed,
// because an API server may have such a file mounted by itself, or wait in its queue.
const maxBound = 4

// Listener is a net.Listener whose connections have a Peer as their remote address. Its methods may be called
// concurrently.
type Listener struct {
	addr  *net.UnixAddr
	log   *slog.Logger
	place *place // nil where the file is systemd's
	gate  *gate

	slots chan struct{} // one for each connection that Accept returned and that is open
	conns chan net.Conn // from the accept loops to Accept
	done  chan struct{} // closed by Close

	// bound is not empty, the newest last. It belongs to the goroutine of watch; to Close once that has ended.
	bound []*bound

	watching  sync.WaitGroup
	accepting sync.WaitGroup
	closing   sync.Once
	closeErr  error
}

// Addr returns the configured path.
func (l *Listener) Addr() net.Addr { return l.addr }

// Accept waits for a connection from an allowed peer. After Close it returns net.ErrClosed and nothing else.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close stops listening, removes the socket file if it is still the Listener's, and lets the next daemon have the name.
// Connections that Accept has returned stay open.
func (l *Listener) Close() error {
	l.closing.Do(func() {
		close(l.done)
		l.watching.Wait()
		l.closeErr = l.removeFile() // first: later the name could be the next daemon's
		for _, b := range l.bound {
			b.ln.Close()
		}
		l.accepting.Wait()
		if l.place != nil {
			l.place.unlock()
		}
	})
	return l.closeErr
}

func (l *Listener) removeFile() error {
	if l.place == nil || !l.inPlace() {
		return nil
	}
	if err := os.Remove(l.addr.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// inPlace reports whether the file under the configured path is one of ours.
func (l *Listener) inPlace() bool {
	for _, b := range l.bound {
		if isFile(l.addr.Name, b.file) {
			return true
		}
	}
	return false
}

// serve accepts from b too.
func (l *Listener) serve(b *bound) {
	l.bound = append(l.bound, b)
	if len(l.bound) > maxBound {
		l.bound[0].ln.Close()
		l.bound = l.bound[1:]
	}
	l.accepting.Go(func() { l.accept(b.ln) })
}

// accept hands on the connections of one socket. At the limit it holds one more, and the kernel queues the rest.
func (l *Listener) accept(ln *net.UnixListener) {
	const patience = 100 * time.Millisecond
	failing := false
	for {
		c, err := ln.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // such as no file descriptors: it passes, and ending would be worse
			if !failing {
				l.log.Error("accepting connections fails and is tried again", "socket", l.addr.Name, "err", err)
			}
			failing = true
			time.Sleep(patience)
		default:
			failing = false
			l.handOn(c)
		}
	}
}

// handOn checks the peer before it waits for a free slot: who is not allowed takes none.
func (l *Listener) handOn(c *net.UnixConn) {
	p, err := PeerOf(c)
	if err != nil {
		l.log.Error("closed a connection whose peer the kernel does not tell", "socket", l.addr.Name, "err", err)
	}
	if err != nil || !l.gate.admit(p) {
		c.Close()
		return
	}
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		c.Close()
		return
	}
	admitted := &conn{Conn: c, local: l.addr, peer: p, free: sync.OnceFunc(func() { <-l.slots })}
	select {
	case l.conns <- admitted:
	case <-l.done:
		admitted.Close()
	}
}

// conn is a connection that knows its peer and gives its slot back.
type conn struct {
	net.Conn
	local net.Addr // the socket's own name, not the temporary one
	peer  Peer
	free  func()
}

func (c *conn) LocalAddr() net.Addr { return c.local }

func (c *conn) RemoteAddr() net.Addr { return c.peer }

func (c *conn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// Package socket is a Unix listener that fails closed: what it cannot prove to be safe, it refuses.
//
// Who can put another socket in the place of this one is sent the API server's plaintext seeds. So the listener
// promises:
//
//   - Every directory above the socket belongs to root or to the daemon's user and lets nobody else put it aside.
//   - The socket file appears complete, with its final mode and group, and never takes the place of anything but a
//     socket that is proven dead. Two daemons that start at once do not both win.
//   - Only peers whose uid the kernel vouches for and the configuration allows are handed on.
//   - A socket file that is removed or replaced is made again, without an end to the connections that are open.
//   - Connections are bounded, so that they cannot use up the process's file descriptors.
//
// It does not encrypt, and does not defend against root. It knows nothing of what is said over the connections. It
// is for Linux.
package socket

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
)

// DefaultMaxConns is how many connections may be open at once where Config does not say. An API server keeps one per
// KMS provider, so this is room for every operator's tool beside it.
const DefaultMaxConns = 128

// DefaultMode is the mode of the socket file where Config gives none: for the daemon's own user and root.
const DefaultMode fs.FileMode = 0o600

// Config says where to listen and to whom. Only Path must be set.
type Config struct {
	// Path is the absolute path of the socket file, at most 106 bytes. Its directory is made, with mode 0750, if only
	// the last part of it is missing. A file named Path + ".lock" beside it keeps a second daemon out; it stays.
	Path string

	// Mode is the mode of the socket file; zero means DefaultMode. Others may be given nothing. Connecting takes the
	// permission to write. A socket that systemd passes keeps its own mode, and others may have nothing there too.
	Mode fs.FileMode

	// Group is the name or number of the group that the socket file, and its directory where it is made, belong to.
	// Empty means the daemon's own. It needs a Mode that lets the group write.
	Group string

	// AllowUIDs are the users that may connect; empty means root and the daemon's own user. A peer from a user
	// namespace that is not mapped here shows as the overflow uid, usually 65534: do not allow that one.
	AllowUIDs []uint32

	// MaxConns is how many connections may be open at once; zero means DefaultMaxConns. Further ones wait in the
	// kernel's queue until one is closed.
	MaxConns int

	// Refused, if set, is called for every peer that is turned away. It must return soon.
	Refused func(Peer)
}

// Error is why a socket is refused, with the operator's next action. What Listen returns wraps one.
type Error struct {
	Err  error
	Hint string // never empty
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// refuse returns an *Error; hint comes first because it is a constant.
func refuse(hint, format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Hint: hint}
}

// Listen listens as cfg says and keeps the socket file in its place until Close.
//
// Where systemd has passed a socket (LISTEN_FDS), that one is used; it must be the only one and be bound to cfg.Path.
// Its file is systemd's: it is never changed, removed or made again. The variables are removed from the environment.
//
// Later changes of state, such as a socket file that was removed, and peers that are turned away are told to log.
func Listen(cfg Config, log *slog.Logger) (*Listener, error) {
	l, err := listen(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: %w", cfg.Path, err)
	}
	return l, nil
}

func listen(cfg Config, log *slog.Logger) (*Listener, error) {
	p, err := newPlace(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.MaxConns < 0 {
		return nil, refuse("set a positive number, or none for the default", "a limit of %d connections", cfg.MaxConns)
	}
	l := &Listener{
		addr:  &net.UnixAddr{Net: "unix", Name: cfg.Path},
		log:   log,
		gate:  newGate(cfg, log),
		slots: make(chan struct{}, cfg.MaxConns),
		conns: make(chan net.Conn),
		done:  make(chan struct{}),
	}
	first, err := inherit(cfg.Path)
	if err != nil {
		return nil, err
	}
	if first == nil {
		l.place = p
		if first, err = p.take(); err != nil {
			p.unlock()
			return nil, err
		}
	}
	l.warnOfSticky(filepath.Dir(cfg.Path))
	l.serve(first)
	l.watching.Go(l.watch)
	return l, nil
}

// warnOfSticky tells of a socket under a directory like /tmp: safe while it exists, but after a reboot, or when it was
// cleaned away, whoever comes first has the name.
func (l *Listener) warnOfSticky(dir string) {
	if sticky, _ := checkDirs(dir); sticky != "" {
		l.log.Warn("anybody could take the socket's name while it does not exist, and be sent secrets",
			"socket", l.addr.Name, "writable_by_all", sticky, "hint", "move socket.path to a directory under /run")
	}
}

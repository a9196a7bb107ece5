package socket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// acquire locks the file beside the socket, which stays for good: a lock file that is removed could be locked by two.
// If somebody else has removed it, the new one is locked as well.
func (p *place) acquire() error {
	name := p.path + ".lock"
	if p.holds(name) {
		return nil
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return refuse("let the daemon's user write to "+filepath.Dir(name)+", and remove what is at "+name,
			"opening the lock file: %w", err)
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return refuse("remove what is at "+name, "%s is not a regular file", name)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid, _ := probe(p.path)
			return inUse(p.path, pid)
		}
		return refuse("set socket.path to a directory on a local file system, such as /run/trousseau",
			"locking %s: %w", name, err)
	}
	p.unlock()
	p.lock = f
	return nil
}

// holds reports whether the file that is locked is still the one of that name.
func (p *place) holds(name string) bool {
	if p.lock == nil {
		return false
	}
	locked, err := p.lock.Stat()
	return err == nil && isFile(name, locked)
}

func (p *place) unlock() {
	if p.lock != nil {
		p.lock.Close()
		p.lock = nil
	}
}

// isFile reports whether name is that file, rather than another one or none.
func isFile(name string, file fs.FileInfo) bool {
	fi, err := os.Lstat(name)
	return err == nil && os.SameFile(fi, file)
}

// clearDead removes a socket on which nobody listens. Everything else that is there is refused.
func clearDead(name string) error {
	fi, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return refuse("let the daemon's user search "+filepath.Dir(name), "looking at what is there: %w", err)
	case fi.Mode().Type() != fs.ModeSocket:
		return refuse("move it away, or set socket.path to another name",
			"%s is %s, not a socket", name, kind(fi.Mode()))
	}
	pid, err := probe(name)
	switch {
	case err == nil:
		return inUse(name, pid)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, unix.ECONNREFUSED):
		return refuse("if no program uses it, remove "+name, "cannot prove that the socket is dead: %w", err)
	}
	if err := os.Remove(name); err != nil {
		return refuse("remove "+name, "removing a dead socket: %w", err)
	}
	return nil
}

// probe connects and returns the process that listens, or 0 if that is in another pid namespace. Only ECONNREFUSED
// proves that there is none.
func probe(name string) (pid int32, err error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: name})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	peer, err := PeerOf(conn)
	if err != nil {
		return 0, nil // somebody answered, and that is what matters
	}
	return peer.PID, nil
}

// inUse is the refusal of a socket on which the process pid listens, or one that is not known if it is 0.
func inUse(name string, pid int32) error {
	switch pid {
	case 0:
		return refuse("stop that program (`lslocks` or `ss -xlp` find it), or set socket.path to another name",
			"another program already listens on %s or is about to", name)
	case 1:
		return refuse("start the daemon through its .socket unit, or stop that unit",
			"process 1 already listens on %s: systemd keeps it for socket activation", name)
	}
	return refuse("stop that process, or set socket.path to another name", "process %d already listens on %s", pid, name)
}

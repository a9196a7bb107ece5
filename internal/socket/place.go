package socket

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxPath is what the kernel takes, 107 bytes, less the dot in front of the temporary name.
const maxPath = 107 - 1

// place is the name under which the socket file appears, and how it is to look. It is not for concurrent use.
type place struct {
	path string
	mode fs.FileMode
	gid  int      // -1 is the daemon's own
	lock *os.File // locked from the first take to unlock
}

// bound is one listening socket with the file it was bound to, which may have been removed since.
type bound struct {
	ln   *net.UnixListener
	file fs.FileInfo
}

// newPlace checks all of cfg that can be checked without touching the file system.
func newPlace(cfg Config) (*place, error) {
	if err := checkPath(cfg.Path); err != nil {
		return nil, err
	}
	mode := cfg.Mode
	if mode == 0 {
		mode = DefaultMode
	}
	switch {
	case mode&^fs.ModePerm != 0:
		return nil, refuse("set socket.mode to four octal digits in quotes, such as \"0660\"",
			"mode %#o is more than permissions", uint32(mode))
	case mode&0o007 != 0:
		return nil, refuse("set socket.mode to 0600, or to 0660 with socket.group",
			"mode %#o lets every user of this machine in", mode)
	case mode&0o200 == 0:
		return nil, refuse("set socket.mode to 0600 or 0660", "mode %#o does not let the owner connect", mode)
	case cfg.Group != "" && mode&0o020 == 0:
		return nil, refuse("set socket.mode to 0660, or remove socket.group",
			"mode %#o does not let the group %q connect", mode, cfg.Group)
	}
	gid, err := groupID(cfg.Group)
	if err != nil {
		return nil, err
	}
	return &place{path: cfg.Path, mode: mode, gid: gid}, nil
}

func checkPath(path string) error {
	const example = "set socket.path to an absolute path, such as /run/trousseau/kms.sock"
	switch {
	case path == "":
		return refuse(example, "no path is given")
	case path[0] == '@' || path[0] == 0:
		return refuse(example, "abstract sockets have no permissions: any local user could take the name")
	case strings.ContainsRune(path, 0):
		return refuse(example, "the path contains a zero byte")
	case !filepath.IsAbs(path):
		return refuse(example, "the path is relative")
	case filepath.Clean(path) != path:
		return refuse("write it as "+filepath.Clean(path), "the path has needless parts")
	case path == "/":
		return refuse(example, "the path is a directory")
	case len(path) > maxPath:
		return refuse("set socket.path to a shorter one, such as /run/trousseau/kms.sock",
			"the path has %d bytes, the limit is %d", len(path), maxPath)
	}
	return nil
}

// groupID takes a number as it is, without a look-up: the group may be one that only the API server's container knows.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	// -1 in a gid_t means "leave as it is", so it is no group.
	if n, err := strconv.ParseUint(group, 10, 32); err == nil && n < 1<<32-1 {
		return int(n), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, refuse("set socket.group to an existing group or its number, or create it with `groupadd --system`",
			"looking up group %q: %w", group, err)
	}
	return strconv.Atoi(g.Gid)
}

// take makes the socket file, and first of all sure that it may. It is called again when the file has gone.
func (p *place) take() (*bound, error) {
	if err := p.prepareDir(); err != nil {
		return nil, err
	}
	if err := p.acquire(); err != nil {
		return nil, err
	}
	// A dead temporary file is what a crash between bind and rename leaves.
	for _, name := range []string{p.temp(), p.path} {
		if err := clearDead(name); err != nil {
			return nil, err
		}
	}
	return p.bind()
}

// temp is the name that the socket is bound under. `ss` shows it for as long as the socket lives.
func (p *place) temp() string {
	return filepath.Join(filepath.Dir(p.path), "."+filepath.Base(p.path))
}

// bind listens under the temporary name, and gives the file its own name once nothing about it is missing.
func (p *place) bind() (*bound, error) {
	temp := p.temp()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// bind(2) gives the file the mode of the socket itself, so not even the temporary one is ever open to all.
		return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}
	l, err := config.Listen(context.Background(), "unix", temp)
	if err != nil {
		return nil, refuse("let the daemon's user write to "+filepath.Dir(temp), "binding the socket: %w", err)
	}
	ln := l.(*net.UnixListener)
	ln.SetUnlinkOnClose(false) // it would remove by name, whoever's file that is by then
	file, err := p.reveal(temp)
	if err != nil {
		ln.Close()
		os.Remove(temp)
		return nil, err
	}
	return &bound{ln: ln, file: file}, nil
}

// reveal gives the socket file its group, mode and name, in that order.
func (p *place) reveal(temp string) (fs.FileInfo, error) {
	if err := setOwner(temp, p.gid, p.mode); err != nil {
		return nil, err
	}
	file, err := os.Lstat(temp)
	if err != nil {
		return nil, refuse("keep other programs out of "+filepath.Dir(temp), "looking at the new socket: %w", err)
	}
	// NOREPLACE, because whatever has appeared since the look at that name was not proven dead.
	err = unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, p.path, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, refuse("keep other programs out of "+filepath.Dir(temp), "another program has just taken the name")
	case err != nil:
		return nil, refuse("set socket.path to a directory on a local file system, such as /run/trousseau",
			"renaming the socket into place: %w", err)
	}
	return file, nil
}

func setOwner(name string, gid int, mode fs.FileMode) error {
	if gid >= 0 {
		if err := os.Lchown(name, -1, gid); err != nil {
			return refuse("make the daemon's user a member of socket.group, or run the daemon as root",
				"giving %s to group %d: %w", name, gid, err)
		}
	}
	if err := os.Chmod(name, mode); err != nil {
		return refuse("set socket.path to a directory on a local file system, such as /run/trousseau",
			"setting the mode of %s: %w", name, err)
	}
	return nil
}

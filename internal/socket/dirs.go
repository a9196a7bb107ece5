package socket

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links a path may lead through; the kernel's limit is the same.
const maxLinks = 40

// prepareDir makes the socket's directory if only that one is missing, and checks all directories above the socket.
func (p *place) prepareDir() error {
	dir := filepath.Dir(p.path)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if _, err := checkDirs(filepath.Dir(dir)); err != nil {
			return err
		}
		if err := p.makeDir(dir); err != nil {
			return err
		}
	}
	return checkParent(dir)
}

// checkParent checks the socket's own directory, more strictly than those above it: in one like /tmp nobody can put our
// file aside, but anybody can be there first. Above, that is borne with a warning, for tests and trials.
func checkParent(dir string) error {
	if _, err := checkDirs(dir); err != nil {
		return err
	}
	if fi, err := os.Stat(dir); err != nil || writableByOthers(fi) {
		return refuse("set socket.path to a directory of its own, such as /run/trousseau",
			"%s is writable by others, who could take the socket's name first", dir)
	}
	return nil
}

func (p *place) makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil // somebody else was faster: it is checked like any other
	}
	if err != nil {
		return refuse("create it: install -d -m 0750 "+dir, "making the socket's directory: %w", err)
	}
	return setOwner(dir, p.gid, 0o750)
}

// checkDirs walks from the root to dir as the kernel would, through symbolic links, and refuses a directory in which
// somebody other than root and the daemon's user could exchange the next part of the path. sshd's StrictModes looks for
// the same. It returns the last directory on the way that is writable by all with the sticky bit, if there is one: there
// others can create, but neither remove nor rename what is not theirs.
func checkDirs(dir string) (sticky string, err error) {
	at, rest, links := "/", parts(dir), 0
	if _, err := step(at); err != nil {
		return "", err
	}
	for len(rest) > 0 {
		next := filepath.Join(at, rest[0]) // right for ".." in the target of a link too: no part of at is a link
		rest = rest[1:]
		fi, err := step(next)
		if err != nil {
			return "", err
		}
		if fi.Mode().Type() == fs.ModeSymlink {
			target, err := os.Readlink(next)
			if links++; err != nil || links > maxLinks {
				return "", refuse("set socket.path to a path without symbolic links", "the link %s leads nowhere", next)
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = slices.Concat(parts(target), rest)
			continue
		}
		if writableByOthers(fi) {
			sticky = next
		}
		at = next
	}
	return sticky, nil
}

func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// step refuses a directory, or a link to one, that is not safe to go through.
func step(name string) (fs.FileInfo, error) {
	fi, err := os.Lstat(name)
	if err != nil {
		return nil, refuse("create it: install -d -m 0755 "+name, "checking directories: %w", err)
	}
	owner := fi.Sys().(*syscall.Stat_t).Uid
	switch {
	case owner != 0 && int(owner) != os.Geteuid():
		return nil, refuse("chown root "+name+", or set socket.path to another directory",
			"%s belongs to uid %d, who could exchange the socket", name, owner)
	case fi.Mode().Type() == fs.ModeSymlink:
		return fi, nil // its own mode means nothing
	case !fi.IsDir():
		return nil, refuse("set socket.path to a path in a directory", "%s is %s, not a directory", name, kind(fi.Mode()))
	case writableByOthers(fi) && fi.Mode()&fs.ModeSticky == 0:
		return nil, refuse("chmod go-w "+name+", or set socket.path to another directory",
			"%s is writable by others (%s), who could exchange the socket", name, fi.Mode())
	}
	return fi, nil
}

// writableByOthers counts the group too: who is in it can change without notice. It sees access lists as well, since
// the group's bits are then their mask.
func writableByOthers(fi fs.FileInfo) bool { return fi.Mode()&0o022 != 0 }

// kind names what a file is, for people.
func kind(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return "a regular file"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a named pipe"
	case fs.ModeSocket:
		return "a socket"
	}
	return "a device"
}

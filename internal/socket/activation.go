package socket

import (
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstFD is the first file descriptor that systemd passes, see sd_listen_fds(3).
const firstFD = 3

// inherit returns the socket that systemd has passed to this process, nil if it passed none. The variables go from the
// environment in any case, or a child would take itself to be meant.
func inherit(path string) (*bound, error) {
	pid, fds, name := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, v := range []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(v)
	}
	if pid != strconv.Itoa(os.Getpid()) || fds == "" || fds == "0" {
		return nil, nil
	}
	if fds != "1" {
		return nil, refuse("leave one ListenStream= in the .socket unit: "+path,
			"systemd passes %q sockets (%q), not one", fds, name)
	}
	unix.CloseOnExec(firstFD)
	if err := checkInherited(firstFD, path); err != nil {
		return nil, err
	}
	return adopt(firstFD, path)
}

// checkInherited asks the kernel what fd is, before anything is done to it.
func checkInherited(fd int, path string) error {
	hint := "set ListenStream=" + path + " in the .socket unit, or socket.path to what that has"
	for opt, want := range map[int]int{
		unix.SO_DOMAIN: unix.AF_UNIX, unix.SO_TYPE: unix.SOCK_STREAM, unix.SO_ACCEPTCONN: 1,
	} {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt)
		if err != nil || got != want {
			return refuse(hint, "what systemd passes is not a listening Unix stream socket")
		}
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return refuse(hint, "asking for the path of the socket that systemd passes: %w", err)
	}
	if name := addr.(*unix.SockaddrUnix).Name; filepath.Clean(name) != path {
		return refuse(hint, "systemd passes a socket at %q", name)
	}
	return nil
}

// adopt checks the socket's file as far as it can be unsafe, and makes fd a listener.
func adopt(fd int, path string) (*bound, error) {
	if err := checkParent(filepath.Dir(path)); err != nil {
		return nil, err
	}
	file, err := os.Lstat(path)
	if err != nil {
		return nil, refuse("restart the .socket unit", "the file of the socket that systemd passes: %w", err)
	}
	if file.Mode()&0o007 != 0 {
		return nil, refuse("set SocketMode=0600 in the .socket unit, or SocketMode=0660 and SocketGroup=",
			"the socket that systemd passes lets every user of this machine in (%s)", file.Mode())
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() // the listener has its own
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, refuse("restart the .socket unit", "listening on the socket that systemd passes: %w", err)
	}
	return &bound{ln: ln.(*net.UnixListener), file: file}, nil
}

package socket_test

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// passed is a child's environment as systemd would make it, with files from descriptor 3 on.
func passed(pid, n string, files ...*os.File) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.ExtraFiles = files
		cmd.Env = append(cmd.Env, "LISTEN_PID="+pid, "LISTEN_FDS="+n, "LISTEN_FDNAMES=kms.socket", "LISTEN_PIDFDID=1")
	}
}

// unit listens like a .socket unit of systemd and returns the file to pass on.
func unit(t *testing.T, network, path string, mode fs.FileMode) *os.File {
	t.Helper()
	var (
		f   *os.File
		err error
	)
	switch network {
	case "unixgram":
		c, lerr := net.ListenUnixgram(network, &net.UnixAddr{Net: network, Name: path})
		if lerr != nil {
			t.Fatal(lerr)
		}
		defer c.Close()
		f, err = c.File()
	case "tcp":
		ln, lerr := net.Listen(network, path)
		if lerr != nil {
			t.Fatal(lerr)
		}
		defer ln.Close()
		f, err = ln.(*net.TCPListener).File()
	default:
		ln, lerr := net.ListenUnix(network, &net.UnixAddr{Net: network, Name: path})
		if lerr != nil {
			t.Fatal(lerr)
		}
		defer ln.Close()
		ln.SetUnlinkOnClose(false)
		f, err = ln.File()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if network != "tcp" {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func greeted(t *testing.T, path string) bool {
	t.Helper()
	n, _ := dial(t, path).Read(make([]byte, 1))
	return n == 1
}

func TestActivation(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "kms.sock")
	f := unit(t, "unix", path, 0o640)
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, "listen", path, passed("own", "1", f))
	if c.said != "listening, 0 variables left" {
		t.Fatalf("the child said %q", c.said)
	}
	if !greeted(t, path) {
		t.Error("the connection was closed")
	}
	c.stop()
	after, err := os.Lstat(path)
	if err != nil || !os.SameFile(before, after) || before.Mode() != after.Mode() {
		t.Errorf("the socket file changed: %v, now %v (%v)", before, after, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("the daemon left files beside it: %v", left)
	}
	// systemd keeps the socket: the next daemon goes on with it.
	if c := start(t, "listen", path, passed("own", "1", f)); !greeted(t, path) {
		t.Errorf("the second child said %q", c.said)
	}
}

// What systemd has made, systemd must make again.
func TestActivatedFileRemoved(t *testing.T) {
	path := filepath.Join(shortDir(t), "kms.sock")
	f := unit(t, "unix", path, 0o600)
	log := &logs{}
	start(t, "listen", path, func(cmd *exec.Cmd) {
		passed("own", "1", f)(cmd)
		cmd.Stderr = log
	})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log says what to do", func() bool { return log.count("restart the daemon's .socket unit") == 1 })
	if exists(path)() {
		t.Error("the daemon made the file again")
	}
}

// Variables that are meant for another process, such as this one's parent, are no reason to take descriptor 3.
func TestActivationOfAnother(t *testing.T) {
	path := filepath.Join(shortDir(t), "kms.sock")
	for name, env := range map[string]func(*exec.Cmd){
		"another process": passed("1", "1"),
		"no sockets":      passed("own", "0"),
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, "listen", path, env)
			if c.said != "listening, 0 variables left" || !greeted(t, path) {
				t.Errorf("the child said %q", c.said)
			}
			c.stop()
			if exists(path)() {
				t.Error("the child left its socket")
			}
		})
	}
}

func TestRefusedActivation(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "kms.sock")
	open := unit(t, "unix", path, 0o666)
	gone := unit(t, "unix", filepath.Join(dir, "gone.sock"), 0o600)
	if err := os.Remove(filepath.Join(dir, "gone.sock")); err != nil {
		t.Fatal(err)
	}
	client, err := dial(t, path).(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	tcp := unit(t, "tcp", "127.0.0.1:0", 0)
	datagrams := unit(t, "unixgram", filepath.Join(dir, "datagrams"), 0o600)
	packets := unit(t, "unixpacket", filepath.Join(dir, "packets"), 0o600)
	sticky := filepath.Join(mkdir(t, 0o777|fs.ModeSticky, dir, "sticky"), "kms.sock")
	inSticky := unit(t, "unix", sticky, 0o600)
	other := filepath.Join(dir, "other.sock")

	const wrongKind, listen = "not a listening Unix stream socket", "set ListenStream="
	for name, test := range map[string]struct {
		path      string
		env       func(*exec.Cmd)
		text, fix string
	}{
		"open to others":   {path, passed("own", "1", open), "lets every user", "SocketMode=0660"},
		"another path":     {other, passed("own", "1", open), `a socket at "` + path + `"`, listen + other},
		"several":          {path, passed("own", "2", open, gone), `passes "2" sockets`, "leave one ListenStream="},
		"no number":        {path, passed("own", "many", open), `passes "many" sockets`, "leave one ListenStream="},
		"nothing there":    {path, passed("own", "1"), wrongKind, listen},
		"a file":           {path, passed("own", "1", os.Stderr), wrongKind, listen},
		"a connection":     {path, passed("own", "1", client), wrongKind, listen},
		"TCP":              {path, passed("own", "1", tcp), wrongKind, listen},
		"datagrams":        {filepath.Join(dir, "datagrams"), passed("own", "1", datagrams), wrongKind, listen},
		"packets":          {filepath.Join(dir, "packets"), passed("own", "1", packets), wrongKind, listen},
		"file is gone":     {filepath.Join(dir, "gone.sock"), passed("own", "1", gone), "no such file", "restart the .socket"},
		"sticky directory": {sticky, passed("own", "1", inSticky), "writable by others", "/run/trousseau"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, "listen", test.path, test.env)
			text, hint, _ := strings.Cut(c.said, ": hint: ")
			if !strings.Contains(text, test.text) || !strings.Contains(hint, test.fix) {
				t.Errorf("the child said %q, want %q and the hint %q", c.said, test.text, test.fix)
			}
		})
	}
}

package socket_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/socket"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// shortDir is a directory that only this user may write to, with a path that leaves room for a socket's name, which
// that of t.TempDir does not always.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// needRoot skips a test that gives files away or connects as somebody else.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		testserver.Missing(t, "root's rights", "run the tests as root")
	}
}

// logs collects what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// listen listens until the test ends.
func listen(t *testing.T, cfg socket.Config) (*socket.Listener, *logs) {
	t.Helper()
	log := &logs{}
	l, err := socket.Listen(cfg, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, log
}

// wantRefusal listens and expects an error with that text, whose hint has the given fix.
func wantRefusal(t *testing.T, cfg socket.Config, text, fix string) {
	t.Helper()
	l, err := socket.Listen(cfg, slog.New(slog.DiscardHandler))
	if err == nil {
		l.Close()
		t.Fatalf("listens, want a refusal with %q", text)
	}
	refusal, ok := errors.AsType[*socket.Error](err)
	if !ok {
		t.Fatalf("%v: is a %T, want a *socket.Error", err, err)
	}
	if !strings.HasPrefix(err.Error(), "listening on ") || !strings.Contains(err.Error(), text) {
		t.Errorf("error is %q, want it to contain %q", err, text)
	}
	if !strings.Contains(refusal.Hint, fix) {
		t.Errorf("hint is %q, want it to contain %q", refusal.Hint, fix)
	}
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// accept expects a connection within moments.
func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	select {
	case c := <-accepting(t, l):
		return c
	case <-time.After(5 * time.Second):
		t.Fatal("no connection came")
		return nil
	}
}

// accepting accepts one connection in the background.
func accepting(t *testing.T, l net.Listener) <-chan net.Conn {
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			t.Cleanup(func() { c.Close() })
			accepted <- c
		}
	}()
	return accepted
}

// wantWorking expects that a new client gets through to l.
func wantWorking(t *testing.T, l net.Listener) {
	t.Helper()
	client := dial(t, l.Addr().String())
	server := accept(t, l)
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := server.Read(got); err != nil || string(got) != "hello" {
		t.Fatalf("read %q, %v", got, err)
	}
}

// eventually waits for what the listener does by itself, within a second or so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(shortDir(t), "kms.sock")
	l, log := listen(t, socket.Config{Path: path})
	if got := l.Addr().String(); got != path {
		t.Errorf("address is %q, want %q", got, path)
	}
	wantWorking(t, l)
	if fi, err := os.Lstat(path); err != nil || fi.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket has %v, %v, want mode 0600", fi.Mode(), err)
	}
	if log.count("writable_by_all=/tmp") != 1 {
		t.Error("no warning of a socket below /tmp")
	}
}

func TestRefusedConfig(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "kms.sock")
	for name, test := range map[string]struct {
		cfg       socket.Config
		text, fix string
	}{
		"no path":              {socket.Config{}, "no path", "absolute path, such as /run/"},
		"abstract":             {socket.Config{Path: "@kms"}, "abstract sockets have no permissions", "/run/"},
		"abstract in bytes":    {socket.Config{Path: "\x00kms"}, "abstract sockets have no permissions", "/run/"},
		"zero byte":            {socket.Config{Path: dir + "/k\x00"}, "zero byte", "/run/"},
		"relative":             {socket.Config{Path: "run/kms.sock"}, "relative", "/run/"},
		"parent in path":       {socket.Config{Path: dir + "/../kms.sock"}, "needless parts", "write it as /tmp/kms.sock"},
		"slash at end":         {socket.Config{Path: path + "/"}, "needless parts", "write it as " + path},
		"root":                 {socket.Config{Path: "/"}, "is a directory", "/run/"},
		"open to others":       {socket.Config{Path: path, Mode: 0o666}, "0666 lets every user", "socket.mode to 0600"},
		"others may look":      {socket.Config{Path: path, Mode: 0o604}, "0604 lets every user", "socket.mode to 0600"},
		"decimal mode":         {socket.Config{Path: path, Mode: 660}, "more than permissions", `"0660"`},
		"nobody may connect":   {socket.Config{Path: path, Mode: 0o440}, "does not let the owner connect", "0600 or 0660"},
		"group cannot connect": {socket.Config{Path: path, Group: "0"}, "does not let the group", "0660"},
		"unknown group": {
			socket.Config{Path: path, Mode: 0o660, Group: "no-such-group"}, `"no-such-group"`, "groupadd",
		},
		"group that is none": {
			socket.Config{Path: path, Mode: 0o660, Group: "4294967295"}, `"4294967295"`, "groupadd",
		},
		"negative limit": {socket.Config{Path: path, MaxConns: -1}, "-1 connections", "positive number"},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefusal(t, test.cfg, test.text, test.fix)
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left %v behind", left)
			}
		})
	}
}

func TestLongestPath(t *testing.T) {
	dir := shortDir(t)
	longest := filepath.Join(dir, strings.Repeat("k", 106-len(dir)-1))
	l, _ := listen(t, socket.Config{Path: longest})
	wantWorking(t, l)
	wantRefusal(t, socket.Config{Path: longest + "k"}, "has 107 bytes, the limit is 106", "shorter")
}

func TestModeAndGroup(t *testing.T) {
	needRoot(t)
	const gid = 4242
	for range 100 {
		dir := filepath.Join(shortDir(t), "run")
		path := filepath.Join(dir, "kms.sock")
		first := make(chan fs.FileInfo)
		go func() {
			for {
				if fi, err := os.Lstat(filepath.Join(dir, ".kms.sock")); err == nil && fi.Mode()&0o007 != 0 {
					t.Errorf("the temporary file has %v", fi.Mode())
				}
				if fi, err := os.Lstat(path); err == nil {
					first <- fi
					return
				}
			}
		}()
		l, _ := listen(t, socket.Config{Path: path, Mode: 0o660, Group: "4242"})
		if fi := <-first; fi.Mode() != fs.ModeSocket|0o660 || gidOf(fi) != gid {
			t.Fatalf("appeared with %v and group %d", fi.Mode(), gidOf(fi))
		}
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o750 || gidOf(fi) != gid {
			t.Fatalf("directory has %v and group %d (%v)", fi.Mode(), gidOf(fi), err)
		}
		l.Close()
	}
}

func TestGroupByName(t *testing.T) {
	needRoot(t)
	path := filepath.Join(shortDir(t), "kms.sock")
	listen(t, socket.Config{Path: path, Mode: 0o660, Group: "nogroup"})
	if fi, err := os.Lstat(path); err != nil || gidOf(fi) != 65534 {
		t.Errorf("the socket's group is %d (%v), want nogroup's", gidOf(fi), err)
	}
}

func TestConnectionCap(t *testing.T) {
	l, _ := listen(t, socket.Config{Path: filepath.Join(shortDir(t), "kms.sock"), MaxConns: 2})
	dial(t, l.Addr().String())
	dial(t, l.Addr().String())
	first := accept(t, l)
	accept(t, l)
	for range 20 { // none of these is refused
		dial(t, l.Addr().String())
	}
	third := accepting(t, l)
	select {
	case <-third:
		t.Fatal("accepted a third connection, the limit is 2")
	case <-time.After(200 * time.Millisecond):
	}
	if n := openSockets(t); n > 2+1+20+10 {
		t.Errorf("%d sockets are open", n)
	}
	first.Close()
	first.Close() // gives back one slot, not two
	select {
	case <-third:
	case <-time.After(5 * time.Second):
		t.Fatal("the third connection never came")
	}
	select {
	case <-accepting(t, l):
		t.Fatal("accepted a fourth connection, the limit is 2")
	case <-time.After(200 * time.Millisecond):
	}
}

// openSockets counts this process's sockets.
func openSockets(t *testing.T) (n int) {
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

func TestClose(t *testing.T) {
	path := filepath.Join(shortDir(t), "kms.sock")
	l, _ := listen(t, socket.Config{Path: path})
	client := dial(t, path)
	server := accept(t, l)
	waiting := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		waiting <- err
	}()
	for range 2 { // grpc.Server.Stop closes once more
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept returned %v, want net.ErrClosed", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket file is still there (%v)", err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Errorf("an open connection was closed: %v", err)
	}
	if n, err := server.Read(make([]byte, 1)); n != 1 {
		t.Errorf("an open connection was closed: %v", err)
	}
	again, _ := listen(t, socket.Config{Path: path})
	wantWorking(t, again)
}

func TestCloseLeavesWhatIsNotItsOwn(t *testing.T) {
	path := filepath.Join(shortDir(t), "kms.sock")
	l, _ := listen(t, socket.Config{Path: path})
	file := path + "-file"
	if err := errors.Join(os.WriteFile(file, []byte("precious"), 0o600), os.Rename(file, path)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if got, err := os.ReadFile(path); string(got) != "precious" {
		t.Errorf("the file has %q (%v)", got, err)
	}
}

package socket_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/trousseau-io/trousseau/internal/socket"
)

func gidOf(fi fs.FileInfo) int { return int(fi.Sys().(*syscall.Stat_t).Gid) }

// deadSocket leaves a socket file on which nobody listens.
func deadSocket(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
}

func TestReplacesDeadSocket(t *testing.T) {
	dir := shortDir(t)
	deadSocket(t, filepath.Join(dir, "kms.sock"))
	deadSocket(t, filepath.Join(dir, ".kms.sock")) // from a crash before the rename
	l, _ := listen(t, socket.Config{Path: filepath.Join(dir, "kms.sock")})
	wantWorking(t, l)
}

func TestRefusesOtherFiles(t *testing.T) {
	make := map[string]func(path string) error{
		"a regular file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a directory":    func(path string) error { return os.Mkdir(path, 0o700) },
		"a named pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a symbolic link": func(path string) error {
			deadSocket(t, path+"-dead")
			return os.Symlink(path+"-dead", path)
		},
	}
	for kind, create := range make {
		for _, name := range []string{"kms.sock", ".kms.sock"} {
			t.Run(fmt.Sprintf("%s at %s", kind, name), func(t *testing.T) {
				dir := shortDir(t)
				at := filepath.Join(dir, name)
				if err := create(at); err != nil {
					t.Fatal(err)
				}
				before, err := os.Lstat(at)
				if err != nil {
					t.Fatal(err)
				}
				wantRefusal(t, socket.Config{Path: filepath.Join(dir, "kms.sock")},
					name+" is "+kind+", not a socket", "move it away")
				if after, err := os.Lstat(at); err != nil || !os.SameFile(before, after) {
					t.Errorf("it was touched (%v)", err)
				}
			})
		}
	}
}

func TestRefusesSocketOfAnotherType(t *testing.T) {
	path := filepath.Join(shortDir(t), "kms.sock")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wantRefusal(t, socket.Config{Path: path}, "cannot prove that the socket is dead", "remove "+path)
}

func TestRefusesLockThatIsNoFile(t *testing.T) {
	dir := shortDir(t)
	victim := filepath.Join(dir, "victim")
	path := filepath.Join(dir, "kms.sock")
	if err := os.Symlink(victim, path+".lock"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, socket.Config{Path: path}, "opening the lock file", "remove what is at "+path+".lock")
	if _, err := os.Stat(victim); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the link was followed")
	}
	os.Remove(path + ".lock")
	if err := syscall.Mkfifo(path+".lock", 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, socket.Config{Path: path}, "not a regular file", "remove what is at "+path+".lock")
}

func TestSecondDaemon(t *testing.T) {
	pid := fmt.Sprintf("process %d already listens", os.Getpid())
	t.Run("with the lock", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "kms.sock")
		l, _ := listen(t, socket.Config{Path: path})
		wantRefusal(t, socket.Config{Path: path}, pid, "stop that process")
		accept(t, l) // the second one's question
		wantWorking(t, l)
	})
	t.Run("whose lock was removed", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "kms.sock")
		listen(t, socket.Config{Path: path})
		os.Remove(path + ".lock")
		wantRefusal(t, socket.Config{Path: path}, pid, "stop that process")
	})
	t.Run("that is no trousseaud", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "kms.sock")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		wantRefusal(t, socket.Config{Path: path}, pid, "stop that process")
	})
	t.Run("that has no socket yet", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "kms.sock")
		l, _ := listen(t, socket.Config{Path: path})
		os.Remove(path)
		wantRefusal(t, socket.Config{Path: path}, "another program", "`lslocks`")
		_ = l
	})
}

// A file that appears after the look at the name, and before the socket is renamed, is not replaced either.
func TestFileAppears(t *testing.T) {
	for range 100 {
		path := filepath.Join(shortDir(t), "kms.sock")
		created := make(chan error)
		go func() {
			temp := filepath.Join(filepath.Dir(path), ".kms.sock")
			for !exists(temp)() && !exists(path)() {
			}
			f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
			f.Close()
			created <- err
		}()
		l, err := socket.Listen(socket.Config{Path: path}, slog.New(slog.DiscardHandler))
		createErr := <-created
		if (err == nil) == (createErr == nil) {
			t.Fatalf("both have the name, or neither: %v, %v", err, createErr)
		}
		if err == nil {
			l.Close()
		}
	}
}

// Of daemons that start at the same time exactly one wins, whatever the one before has left. The losers do no harm.
func TestRace(t *testing.T) {
	const daemons = 4
	path := filepath.Join(shortDir(t), "kms.sock")
	for i := range 150 {
		switch i % 3 {
		case 1:
			deadSocket(t, path)
		case 2:
			os.Remove(path + ".lock")
		}
		var (
			wg    sync.WaitGroup
			start = make(chan struct{})
			won   = make(chan *socket.Listener, daemons)
			lost  = make(chan error, daemons)
		)
		for range daemons {
			wg.Go(func() {
				<-start
				l, err := socket.Listen(socket.Config{Path: path}, slog.New(slog.DiscardHandler))
				if err != nil {
					lost <- err
					return
				}
				won <- l
			})
		}
		close(start)
		wg.Wait()
		close(lost)
		if len(won) != 1 {
			t.Fatalf("round %d: %d daemons listen", i, len(won))
		}
		for err := range lost {
			if !strings.Contains(err.Error(), "already listens") {
				t.Fatalf("round %d: %v", i, err)
			}
		}
		l := <-won
		client := dial(t, path)
		client.Close()
		accept(t, l).Close()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

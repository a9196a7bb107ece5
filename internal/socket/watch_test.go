package socket_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trousseau-io/trousseau/internal/socket"
)

const (
	madeAgain   = "made it again"
	cannotAgain = "cannot be made again"
	twoLooks    = 1200 * time.Millisecond // at the file
)

// put replaces path by what is at from, and the other way round, so that the daemon never sees a gap.
func put(from, path string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
}

func exists(path string) func() bool {
	return func() bool {
		_, err := os.Lstat(path)
		return err == nil
	}
}

func locked(t *testing.T, name string) bool {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

func TestMadeAgain(t *testing.T) {
	for name, lose := range map[string]func(dir, path string) error{
		"file removed": func(_, path string) error { return os.Remove(path) },
		"file renamed": func(_, path string) error { return os.Rename(path, path+"-away") },
		"dir removed":  func(dir, _ string) error { return os.RemoveAll(dir) },
		"dir replaced": func(dir, _ string) error { return errors.Join(os.Mkdir(dir+"-new", 0o755), put(dir+"-new", dir)) },
		"dir renamed":  func(dir, _ string) error { return os.Rename(dir, dir+"-away") },
		"lock removed": func(_, path string) error { return errors.Join(os.Remove(path+".lock"), os.Remove(path)) },
		"replaced by a dead socket": func(_, path string) error {
			ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path + "-dead"})
			if err != nil {
				return err
			}
			ln.SetUnlinkOnClose(false)
			return errors.Join(ln.Close(), os.Rename(path+"-dead", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(shortDir(t), "run")
			path := filepath.Join(dir, "kms.sock")
			l, log := listen(t, socket.Config{Path: path, Mode: 0o600})
			client := dial(t, path)
			server := accept(t, l)
			if err := lose(dir, path); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the log tells of the new file", func() bool { return log.count(madeAgain) == 1 })
			if fi, err := os.Lstat(path); err != nil || fi.Mode() != fs.ModeSocket|0o600 {
				t.Fatalf("the socket has %v (%v)", fi, err)
			}
			wantWorking(t, l)
			if _, err := client.Write([]byte("x")); err != nil {
				t.Errorf("the open connection was closed: %v", err)
			}
			if n, _ := server.Read(make([]byte, 1)); n != 1 {
				t.Error("the open connection was closed")
			}
			if !locked(t, path+".lock") {
				t.Error("the lock file is not locked")
			}
			if log.count(madeAgain) != 1 || log.count(cannotAgain) != 0 {
				t.Error("logged more than once")
			}
			l.Close()
			if exists(path)() {
				t.Error("Close left the new file")
			}
		})
	}
}

// Whoever has the old file mounted into a pod still gets in.
func TestOldFileStillServed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "kms.sock")
	l, _ := listen(t, socket.Config{Path: path})
	if err := os.Rename(path, path+"-mounted"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is back", exists(path))
	wantWorking(t, l)
	dial(t, path+"-mounted")
	accept(t, l)
}

func TestOldSocketsAreBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "kms.sock")
	l, log := listen(t, socket.Config{Path: path})
	const lost = 4
	for i := range lost {
		if err := os.Rename(path, path+"-away"); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // the first one, to be given up in the end
			if err := os.Rename(path+"-away", path+"-first"); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the file is back", func() bool { return log.count(madeAgain) == i+1 })
	}
	if c, err := net.Dial("unix", path+"-first"); err == nil {
		c.Close()
		t.Error("the oldest socket is still listened on")
	}
	wantWorking(t, l)
}

func TestCannotBeMadeAgain(t *testing.T) {
	t.Run("a file in its place", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(shortDir(t), "kms.sock")
		l, log := listen(t, socket.Config{Path: path})
		file := path + "-file"
		if err := errors.Join(os.WriteFile(file, []byte("precious"), 0o600), os.Rename(file, path)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the log tells", func() bool { return log.count(cannotAgain) == 1 })
		time.Sleep(twoLooks)
		if log.count(cannotAgain) != 1 {
			t.Error("logged more than once")
		}
		if log.count("move it away") != 1 {
			t.Error("the log does not say what to do")
		}
		if got, err := os.ReadFile(path); string(got) != "precious" {
			t.Errorf("the file has %q (%v)", got, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the log tells of the new file", func() bool { return log.count(madeAgain) == 1 })
		wantWorking(t, l)
	})
	t.Run("another program in its place", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(shortDir(t), "kms.sock")
		_, log := listen(t, socket.Config{Path: path})
		other, err := net.Listen("unix", path+"-other")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := os.Rename(path+"-other", path); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the log tells", func() bool { return log.count(cannotAgain) == 1 })
		time.Sleep(twoLooks)
		if log.count(cannotAgain) != 1 || log.count("already listens") != 1 {
			t.Error("logged more than once")
		}
		if !exists(path)() {
			t.Error("the other program's socket was removed")
		}
	})
	t.Run("its own file comes back", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(shortDir(t), "kms.sock")
		l, log := listen(t, socket.Config{Path: path})
		if err := errors.Join(os.Mkdir(path+"-dir", 0o700), put(path+"-dir", path)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the log tells", func() bool { return log.count(cannotAgain) == 1 })
		if err := put(path+"-dir", path); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the log tells", func() bool { return log.count("is back") == 1 })
		if log.count(madeAgain) != 0 {
			t.Error("the file was made again, though it was there")
		}
		wantWorking(t, l)
	})
}

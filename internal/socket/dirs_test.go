package socket_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/trousseau-io/trousseau/internal/socket"
)

func mkdir(t *testing.T, mode fs.FileMode, parts ...string) string {
	t.Helper()
	dir := filepath.Join(parts...)
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMakesLastDirectoryOnly(t *testing.T) {
	base := shortDir(t)
	l, _ := listen(t, socket.Config{Path: filepath.Join(base, "run", "kms.sock")})
	wantWorking(t, l)
	if fi, err := os.Stat(filepath.Join(base, "run")); err != nil || fi.Mode().Perm() != 0o750 {
		t.Errorf("directory has %v (%v), want 0750", fi.Mode(), err)
	}
	wantRefusal(t, socket.Config{Path: filepath.Join(base, "a", "b", "kms.sock")},
		"no such file or directory", "install -d -m 0755 "+filepath.Join(base, "a"))
}

func TestRefusedDirectories(t *testing.T) {
	t.Run("writable by the group", func(t *testing.T) {
		dir := mkdir(t, 0o770, shortDir(t), "d")
		wantRefusal(t, socket.Config{Path: filepath.Join(dir, "kms.sock")},
			dir+" is writable by others", "chmod go-w "+dir)
	})
	t.Run("writable by all", func(t *testing.T) {
		dir := mkdir(t, 0o707, shortDir(t), "d")
		wantRefusal(t, socket.Config{Path: filepath.Join(dir, "kms.sock")},
			dir+" is writable by others", "chmod go-w "+dir)
	})
	t.Run("sticky", func(t *testing.T) {
		dir := mkdir(t, 0o777|fs.ModeSticky, shortDir(t), "d")
		wantRefusal(t, socket.Config{Path: filepath.Join(dir, "kms.sock")},
			dir+" is writable by others, who could take the socket's name first", "a directory of its own")
	})
	t.Run("below one that is writable by all", func(t *testing.T) {
		above := mkdir(t, 0o777, shortDir(t), "d")
		wantRefusal(t, socket.Config{Path: filepath.Join(above, "e", "kms.sock")},
			above+" is writable by others", "chmod go-w "+above)
		if _, err := os.Stat(filepath.Join(above, "e")); !errors.Is(err, fs.ErrNotExist) {
			t.Error("made a directory where it is not safe")
		}
	})
	t.Run("through a link that lies in one that is writable by all", func(t *testing.T) {
		base := shortDir(t)
		safe, open := mkdir(t, 0o755, base, "safe"), mkdir(t, 0o777, base, "open")
		link := filepath.Join(base, "link")
		errs := errors.Join(os.Symlink(safe, filepath.Join(open, "hop")), os.Symlink("open/hop", link))
		if errs != nil {
			t.Fatal(errs)
		}
		wantRefusal(t, socket.Config{Path: filepath.Join(link, "kms.sock")},
			open+" is writable by others", "chmod go-w "+open)
	})
	t.Run("a file", func(t *testing.T) {
		file := filepath.Join(shortDir(t), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, socket.Config{Path: filepath.Join(file, "kms.sock")},
			"is a regular file, not a directory", "in a directory")
	})
	t.Run("links in a circle", func(t *testing.T) {
		link := filepath.Join(shortDir(t), "link")
		if err := os.Symlink(link, link); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, socket.Config{Path: filepath.Join(link, "kms.sock")}, "leads nowhere", "without symbolic links")
	})
	t.Run("of another user", func(t *testing.T) {
		needRoot(t)
		dir := mkdir(t, 0o755, shortDir(t), "d")
		if err := os.Chown(dir, 4242, 4242); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, socket.Config{Path: filepath.Join(dir, "kms.sock")}, "belongs to uid 4242", "chown root "+dir)
	})
	t.Run("a link of another user", func(t *testing.T) {
		needRoot(t)
		base := shortDir(t)
		link := filepath.Join(base, "link")
		err := errors.Join(os.Symlink(mkdir(t, 0o755, base, "d"), link), os.Lchown(link, 4242, 4242))
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, socket.Config{Path: filepath.Join(link, "kms.sock")}, "belongs to uid 4242", "chown root "+link)
	})
}

// /var/run is such a link on most machines.
func TestThroughLinks(t *testing.T) {
	base := shortDir(t)
	mkdir(t, 0o755, base, "run")
	mkdir(t, 0o755, base, "var")
	if err := os.Symlink("../run", filepath.Join(base, "var", "run")); err != nil {
		t.Fatal(err)
	}
	l, _ := listen(t, socket.Config{Path: filepath.Join(base, "var", "run", "kms.sock")})
	wantWorking(t, l)
	if _, err := os.Lstat(filepath.Join(base, "run", "kms.sock")); err != nil {
		t.Error(err)
	}
}

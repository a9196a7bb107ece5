package lockdown_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trousseau-io/trousseau/internal/lockdown"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

var note = lockdown.Note{Time: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), UID: 0, Reason: "node \"a\"\nis lost"}

// node is a marker whose places are in two directories.
type node struct {
	lockdown.Marker
	etc, run string
}

func newNode(t *testing.T) node {
	t.Helper()
	n := node{etc: t.TempDir(), run: t.TempDir()}
	n.Marker = lockdown.Of(n.config(), n.socket())
	return n
}

func (n node) config() string { return filepath.Join(n.etc, "config.yaml") }

func (n node) socket() string { return filepath.Join(n.run, "kms.sock") }

func (n node) put(note lockdown.Note) [2]lockdown.Placed {
	return [2]lockdown.Placed{lockdown.Put(n.config(), note), lockdown.Put(n.socket(), note)}
}

func TestPutAndRemove(t *testing.T) {
	m := newNode(t)
	if m.Locked() {
		t.Fatal("locked from the start")
	}
	for range 2 { // the second time nothing changes
		for _, p := range m.put(note) {
			if !p.Held || p.Err != nil {
				t.Errorf("%+v", p)
			}
		}
		if !m.Locked() || m.Note() != note {
			t.Errorf("locked %t, note %+v", m.Locked(), m.Note())
		}
	}
	m.put(lockdown.Note{Time: time.Now(), Reason: "another"})
	if got, want := m.Note().String(), `locked down since 2026-11-24T12:00:00Z by uid 0: "node \"a\"\nis lost"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for range 2 {
		if err := m.Remove(); err != nil || m.Locked() {
			t.Errorf("locked %t, %v", m.Locked(), err)
		}
	}
}

// TestEitherPlaceLocks takes each of the two away.
func TestEitherPlaceLocks(t *testing.T) {
	for i := range 2 {
		m := newNode(t)
		m.put(note)
		if err := os.Remove(m.Marker[i]); err != nil {
			t.Fatal(err)
		}
		if !m.Locked() || m.Note() != note {
			t.Errorf("not locked without %s", m.Marker[i])
		}
	}
}

// TestWhatIsNotProvenAbsentLocks puts things in the marker's place that it never is.
func TestWhatIsNotProvenAbsentLocks(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"empty":            func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"damaged":          func(path string) error { return os.WriteFile(path, []byte(`{"time": `), 0o600) },
		"too large":        func(path string) error { return os.WriteFile(path, []byte(strings.Repeat(" ", 8<<10)), 0o600) },
		"of nobody's mode": func(path string) error { return os.WriteFile(path, nil, 0) },
		"directory":        func(path string) error { return os.Mkdir(path, 0o700) },
		"full directory":   func(path string) error { return os.MkdirAll(filepath.Join(path, "full"), 0o700) },
		"dangling link":    func(path string) error { return os.Symlink("nowhere", path) },
		"link to itself":   func(path string) error { return os.Symlink(path, path) },
		"named pipe":       func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newNode(t)
			if err := put(m.Marker[0]); err != nil {
				t.Fatal(err)
			}
			if !m.Locked() || m.Note() != (lockdown.Note{}) {
				t.Errorf("locked %t, note %+v", m.Locked(), m.Note())
			}
			if err := m.Remove(); (err == nil) == m.Locked() {
				t.Errorf("removed: %v, and locked: %t", err, m.Locked())
			}
		})
	}
}

// TestFileInTheWay has a directory of the path be a file: nothing proves that the marker is not there.
func TestFileInTheWay(t *testing.T) {
	m := newNode(t)
	if err := os.Remove(m.run); err != nil {
		t.Fatal(err)
	}
	if m.Locked() {
		t.Error("locked by a directory that does not exist")
	}
	if err := os.WriteFile(m.run, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !m.Locked() {
		t.Error("not locked")
	}
}

// TestDirectoryThatCannotBeSearched asks as a user who may not look.
func TestDirectoryThatCannotBeSearched(t *testing.T) {
	if os.Getuid() == 0 {
		asNobody(t)
	}
	m := newNode(t)
	if err := os.Chmod(m.etc, 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(m.etc, 0o700)
	if !m.Locked() {
		t.Error("not locked")
	}
	if p := m.put(note); !p[0].Held || p[0].Err == nil || !p[1].Held || p[1].Err != nil {
		t.Errorf("%+v", p)
	}
}

// TestFullDisk puts a marker where not one byte is free, and then where not even a file can be made.
func TestFullDisk(t *testing.T) {
	for name, test := range map[string]struct {
		options string
		held    bool
	}{
		"no bytes": {"size=4k,nr_inodes=10", true},
		"no files": {"size=4k,nr_inodes=1", false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newNode(t)
			testserver.SmallDisk(t, m.etc, test.options)
			_ = os.WriteFile(filepath.Join(m.etc, "large"), make([]byte, 64<<10), 0o600) // as much as there is room for
			p := m.put(note)
			if p[1].Err != nil || p[0].Held != test.held || !errors.Is(p[0].Err, unix.ENOSPC) {
				t.Errorf("%+v", p)
			}
			if !m.Locked() || m.Note() != note {
				t.Error("not locked")
			}
			if err := m.Remove(); err != nil || m.Locked() {
				t.Errorf("locked %t, %v", m.Locked(), err)
			}
		})
	}
}

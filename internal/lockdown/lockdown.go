// Package lockdown is the marker that locks a node: while it is there, the daemon answers no call.
//
// The marker is a file in either of two places. Beside the configuration it outlives a reboot, and is found even where the
// configuration cannot be read; beside the socket, usually in memory, a full disk does not matter. That it is there is what
// locks: its content is for people. The package promises that whatever is not proven to be absent locks, such as an empty
// or damaged marker, one that cannot be read, or a directory that cannot be searched. It tells nobody and kills nothing.
package lockdown

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trousseau-io/trousseau/internal/durable"
)

// suffix is what the marker's name has after that of the file that it stands beside.
const suffix = ".lockdown"

// maxNote bounds what is read of a marker, in bytes.
const maxNote = 4 << 10

// Marker is the paths where the marker of a node may be.
type Marker []string

// Of returns the marker of a daemon, by the absolute paths of its configuration and its socket.
func Of(config, socket string) Marker { return Marker{config + suffix, socket + suffix} }

// Note is what a marker says.
type Note struct {
	Time   time.Time `json:"time"`
	UID    int       `json:"uid"` // of who locked
	Reason string    `json:"reason,omitempty"`
}

// String returns the note as a refused caller gets it.
func (n Note) String() string {
	if n.Time.IsZero() {
		return "locked down; the marker does not say since when and why"
	}
	text := fmt.Sprintf("locked down since %s by uid %d", n.Time.UTC().Format(time.RFC3339), n.UID)
	if n.Reason != "" {
		text += fmt.Sprintf(": %q", n.Reason)
	}
	return text
}

// Locked reports whether the node is locked.
func (m Marker) Locked() bool {
	for _, path := range m {
		if present(path) {
			return true
		}
	}
	return false
}

// present reports whether path is not proven to be absent.
func present(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Note returns what the first legible marker says, or a zero Note.
func (m Marker) Note() Note {
	for _, path := range m {
		if note, err := read(path); err == nil {
			return note
		}
	}
	return Note{}
}

func read(path string) (note Note, err error) {
	// O_NONBLOCK, or opening a named pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return Note{}, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err != nil {
		return Note{}, err
	}
	return note, json.Unmarshal(content, &note)
}

// Placed is what became of a marker in one place.
type Placed struct {
	Path string
	Held bool  // it is there, and locks
	Err  error // why it is not there, or why it says nothing
}

// Put puts the marker beside a configuration or a socket. One that is there stays as it is: it says since when the node is
// locked.
func Put(beside string, note Note) Placed {
	path := beside + suffix
	content, err := json.Marshal(note)
	if err == nil {
		err = put(path, append(content, '\n'))
	}
	return Placed{Path: path, Held: present(path), Err: err}
}

// put makes the file before it writes to it: an empty one locks, and most full disks take it.
func put(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return durable.SyncDir(path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	// The daemon may be another user, and there is nothing secret in it, whatever the umask is.
	return errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close(), durable.SyncDir(path))
}

// Remove removes the marker from every place. While one stays, the node is locked.
func (m Marker) Remove() error {
	var errs []error
	for _, path := range m {
		errs = append(errs, durable.Remove(path))
	}
	return errors.Join(errs...)
}

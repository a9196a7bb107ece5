// Package auditlog is a log whose lines prove their place: who changes, removes, adds or moves a line, or cuts off the end, is
// found out by whoever keeps a head of it on another machine.
//
// Each line carries a code made with a key that only this line has, over the code of the line before. The key of the next
// line is a hash of it, and it is wiped once its line is on the disk. So who takes over the machine, and with it the key of
// the next line, can forge what comes after, and nothing before.
//
// A line is on the disk when Append returns. A line that could not be written is counted, and the next one that can be is
// preceded by one that says how many are missing. The package does not decide what a caller does without its line, and it
// knows nothing of what is logged.
package auditlog

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// Lines that the log writes of its own accord. docs/formats.md has their fields.
const (
	chainStarted = "chain-started" // with a new key: nothing before it can vouch for it
	fileStarted  = "file-started"  // the first line of each file
	headExported = "head-exported" // the first line that an exported head verifies
	lost         = "lost"          // how many events have no line, and since when
	gap          = "gap"           // lines that were there when the log was last open are not there any more
	tornLine     = "torn-line"     // a last line that was not whole was removed
)

// Config says where a log is. All fields are needed.
type Config struct {
	Path    string // of the current file. Beside it are Path + ".state" and the rotated files
	MaxSize int64  // in bytes, at which a file is rotated; the last lines written to it may go over
	Keep    int    // how many rotated files are kept
}

// Error is why a log cannot be opened, with the operator's next action.
type Error struct {
	Err  error
	Hint string // never empty
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// errClosed is the error of Append after Close.
var errClosed = errors.New("the audit log is closed")

// Log is an open log. Its methods may be called concurrently.
type Log struct {
	cfg Config
	log *slog.Logger

	lines, lost atomic.Uint64

	mu      sync.Mutex // guards waiting
	waiting []*entry

	writing   sync.Mutex // guards the following; taken before mu
	at        state
	stateFile *os.File
	file      *os.File // nil if it has to be opened
	first     uint64   // the number of its first line
	size      int64    // of the whole lines in file
	torn      bool     // there may be more than that in it
	failing   bool     // the last lines could not be written
	closed    bool
}

// entry is an event that waits for its line.
type entry struct {
	time   time.Time
	event  string
	fields []slog.Attr
	bound  bool // to the code before it, which the line repeats
	done   bool
	err    error
}

// Append writes a line and returns when it is on the disk. Numbers and truth values are written as such, all other fields as
// text, which is cut at 1 KiB. The names seq, time, event, after and mac are the log's own. After an error there is no
// line, and that is counted.
func (l *Log) Append(event string, fields ...slog.Attr) error {
	e := &entry{event: event, fields: fields}
	l.mu.Lock()
	e.time = time.Now()
	l.waiting = append(l.waiting, e)
	l.mu.Unlock()

	l.writing.Lock() // who comes first writes for all that wait meanwhile: they share one wait for the disk
	defer l.writing.Unlock()
	if !e.done {
		l.writeWaiting()
	}
	return e.err
}

func (l *Log) writeWaiting() {
	l.mu.Lock()
	batch := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	err := l.write(batch)
	for _, e := range batch {
		e.done, e.err = true, err
	}
}

// Export writes a line that says so, with the given fields, and returns the head from which that line, and all that follow,
// can be verified. The machine does not hold this key any more when Export returns.
func (l *Log) Export(fields ...slog.Attr) (Head, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	head := l.at.Head
	if err := l.write([]*entry{{time: time.Now(), event: headExported, fields: fields}}); err != nil {
		return Head{}, err
	}
	return head, nil
}

// Counts returns how many events have a line on the disk since the log was opened, and how many have none.
func (l *Log) Counts() (lines, lost uint64) { return l.lines.Load(), l.lost.Load() }

// Close ends the log. It writes nothing: a log that is not closed is none the worse for it.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.closed = true
	secretmem.Wipe(l.at.Key[:])
	return errors.Join(l.closeFile(), l.stateFile.Close())
}

func refuse(hint, format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Hint: hint}
}

package auditlog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Open opens a log, or begins one. What it finds wrong with a log that is there is no reason to refuse it, but it is told to log, and
// in a line of its own: the log is needed most when somebody has tampered with it. The error is an *Error.
func Open(cfg Config, log *slog.Logger) (*Log, error) {
	l := &Log{cfg: cfg, log: log}
	if err := l.open(); err != nil {
		err = fmt.Errorf("opening the audit log: %w", err)
		if e, ok := errors.AsType[*Error](err); ok {
			return nil, &Error{err, e.Hint}
		}
		return nil, &Error{err, "let the daemon's user write to " + filepath.Dir(cfg.Path) + ", on a file system with free space"}
	}
	return l, nil
}

func (l *Log) open() (err error) {
	path := l.cfg.Path + ".state"
	if l.stateFile, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); errors.Is(err, fs.ErrNotExist) {
		return refuse("make the directory, for the daemon's user only", "%w", err)
	} else if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.closeFile(), l.stateFile.Close())
		}
	}()
	if err := lock(l.stateFile); err != nil {
		return refuse("give each daemon an audit log of its own", "another process writes to it: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(l.stateFile, stateSize))
	if err != nil {
		return err
	}
	at, err := parseState(text)
	if err != nil {
		return l.begin(len(text) == 0)
	}
	l.at = at
	return l.resume()
}

// begin starts a chain: the first one, or another one where nobody can tell how the last one went on.
func (l *Log) begin(empty bool) error {
	last, removed, err := l.last()
	if err != nil {
		return err
	}
	l.at = state{Head: newHead(last + 1), removed: removed}
	why := "first"
	if last > 0 || !empty {
		why = "state-damaged"
		if empty {
			why = "state-missing"
		}
		l.log.Error("the state of the audit log is lost, starting another chain", "file", l.cfg.Path, "reason", why,
			"hint", "find out who could write to its directory; then export another head")
	}
	if err := l.saveState(); err != nil {
		return err
	}
	if err := l.openFile(); err != nil {
		return err
	}
	l.tell(chainStarted, slog.String("reason", why), slog.Uint64("removed", removed))
	return nil
}

// last returns the number of the last line, and up to which number there are none any more.
func (l *Log) last() (last, removed uint64, err error) {
	last, err = lastSeq(l.cfg.Path)
	files := rotated(l.cfg.Path)
	if err != nil || len(files) == 0 {
		return last, 0, err
	}
	if last == 0 {
		last, err = lastSeq(files[len(files)-1].path)
	}
	return last, files[0].first - 1, err
}

// resume goes on with a chain. Lines are written before the state: what was written last by a process that was killed is
// recognised by the keys that follow.
func (l *Log) resume() error {
	if err := l.openFile(); err != nil {
		return err
	}
	last, _, err := l.last()
	if err != nil {
		return err
	}
	noted, strange, torn := l.at.Seq, 0, 0
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	err = eachLine(l.file, func(text []byte, whole bool) {
		if !whole {
			torn = len(text)
			return
		}
		if seqOf(text) < l.at.Seq { // what is before the state is for Verify
			return
		}
		line, err := parseLine(text)
		switch {
		case err != nil:
			strange++
		case line.Seq == l.at.Seq && line.proves(&l.at.Head, l.at.MAC):
			l.at.step(line.mac)
			l.at.lost, l.at.since = 0, time.Time{} // told by one of these lines
			l.at.removed = max(l.at.removed, line.details().Removed)
		default:
			strange++
		}
	})
	if err != nil {
		return err
	}
	if torn > 0 {
		l.tell(tornLine, slog.Int("bytes", torn))
	}
	if strange > 0 || last+1 < noted {
		l.log.Error("lines of the audit log are missing or not its own", "file", l.cfg.Path, "last_line", last, "next_line", l.at.Seq,
			"strange_lines", strange, "hint", "see trousseau audit-log verify")
		l.tell(gap, slog.Uint64("last", last), slog.Int("strange", strange))
	}
	return nil
}

// tell writes a line of the log's own, which does not need the one before it to be found. A full disk is no reason not to
// open the log: the line counts as lost.
func (l *Log) tell(event string, fields ...slog.Attr) {
	_ = l.write([]*entry{{time: time.Now(), event: event, bound: true, fields: fields}})
}

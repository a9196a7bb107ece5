package auditlog

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/trousseau-io/trousseau/internal/durable"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// stateSize is what the state takes in its file, in bytes: one sector of a disk, which is written whole or not at all, and
// in place, so that the key before is gone, and that a full disk is no obstacle.
const stateSize = 512

// write writes a line for each entry, or none. The caller holds l.writing.
func (l *Log) write(batch []*entry) error {
	if l.closed {
		return errClosed
	}
	err := l.prepare()
	fresh := l.size == 0
	if err == nil {
		err = l.writeLines(batch)
	}
	if err != nil {
		l.lose(len(batch), err)
		return err
	}
	l.lines.Add(uint64(len(batch)))
	if err := l.saveState(); err != nil {
		return err // the lines are there, but could be cut off unseen
	}
	if fresh {
		l.dropOld()
	}
	return nil
}

// prepare makes l.file a file that can be written to at l.size.
func (l *Log) prepare() error {
	switch {
	case l.file != nil && !isFile(l.cfg.Path, l.file):
		l.log.Error("the audit log was moved away or removed while it was in use, starting another file", "file", l.cfg.Path)
		_ = l.closeFile() // its lines are on the disk
	case l.file != nil && l.size >= l.cfg.MaxSize:
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if l.file == nil {
		if err := l.openFile(); err != nil {
			return err
		}
	}
	if l.torn {
		if err := l.file.Truncate(l.size); err != nil {
			return err
		}
		l.torn = false
	}
	return nil
}

// writeLines writes the lines of batch behind those that explain it. If it fails, nothing has happened.
func (l *Log) writeLines(batch []*entry) error {
	next := l.at.Head // a copy: what is not on the disk does not count
	defer secretmem.Wipe(next.Key[:])
	removed := l.at.removed
	var lines []byte
	now := time.Now()
	if l.size == 0 && batch[0].event != chainStarted {
		removed = l.removable()
		lines = appendLine(lines, &next, &entry{time: now, event: fileStarted, bound: true, fields: []slog.Attr{slog.Uint64("removed", removed)}})
	}
	if l.at.lost > 0 {
		lines = appendLine(lines, &next, &entry{time: now, event: lost, fields: []slog.Attr{
			slog.Uint64("count", l.at.lost), slog.String("since", l.at.since.UTC().Format(time.RFC3339Nano)),
		}})
	}
	for _, e := range batch {
		lines = appendLine(lines, &next, e)
	}
	if _, err := l.file.WriteAt(lines, l.size); err != nil {
		return l.undo(err)
	}
	if err := l.file.Sync(); err != nil {
		return l.undo(err)
	}
	if l.failing {
		l.failing = false
		l.log.Info("the audit log is written again", "file", l.cfg.Path, "lost", l.at.lost)
	}
	l.size += int64(len(lines))
	l.at = state{Head: next, removed: removed}
	return nil
}

// undo removes what a failed write has left behind, or has the next one do it.
func (l *Log) undo(err error) error {
	l.torn = l.file.Truncate(l.size) != nil
	return err
}

// lose counts events that have no line, where a crash cannot make them be forgotten if the disk allows.
func (l *Log) lose(n int, err error) {
	if l.at.lost == 0 {
		l.at.since = time.Now()
	}
	if !l.failing {
		l.failing = true
		l.log.Error("the audit log cannot be written", "file", l.cfg.Path, "error", err, "hint", "make room, or make its file system writable")
	}
	l.at.lost += uint64(n)
	l.lost.Add(uint64(n))
	_ = l.saveState() // on a disk that is read-only the count lives in memory
}

func (l *Log) saveState() error {
	line := l.at.encode()
	defer secretmem.Wipe(line)
	padded := bytes.Repeat([]byte{' '}, stateSize)
	defer secretmem.Wipe(padded)
	copy(padded, line[:len(line)-1])
	padded[stateSize-1] = '\n'
	_, err := l.stateFile.WriteAt(padded, 0)
	return err
}

// rotate gives the current file the name that it keeps. Before that the state goes to the disk: lines that it does not
// know of are looked for in the current file only.
func (l *Log) rotate() error {
	if err := l.stateFile.Sync(); err != nil {
		return err
	}
	for { // a name that is taken is evidence of something, and stays
		name := rotatedName(l.cfg.Path, l.first)
		if _, err := os.Lstat(name); err == nil {
			l.first++
			continue
		}
		if err := os.Rename(l.cfg.Path, name); err != nil {
			return err
		}
		return l.closeFile()
	}
}

// openFile opens the current file, or makes it.
func (l *Log) openFile() error {
	f, err := os.OpenFile(l.cfg.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	l.first = l.at.Seq
	l.size, l.torn = 0, false
	err = errors.Join(eachLine(f, func(text []byte, whole bool) {
		if !whole {
			l.torn = true
			return
		}
		if seq := seqOf(text); l.size == 0 && seq > 0 {
			l.first = seq
		}
		l.size += int64(len(text)) + 1
	}), durable.SyncDir(l.cfg.Path))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file = f
	return nil
}

func (l *Log) closeFile() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}

// removable returns up to which number lines may be removed because there are more rotated files than are kept. Lines that
// are missing already were not removed by the log, and it does not say that they were.
func (l *Log) removable() uint64 {
	removed := l.at.removed
	files := rotated(l.cfg.Path)
	for i := 0; i < len(files)-l.cfg.Keep; i++ {
		if last, err := lastSeq(files[i].path); err == nil && files[i].first == removed+1 {
			removed = max(removed, last)
		}
	}
	return removed
}

// dropOld removes the rotated files that are too many. The log has told so in the first line of the current file.
func (l *Log) dropOld() {
	files := rotated(l.cfg.Path)
	for i := 0; i < len(files)-l.cfg.Keep; i++ {
		if err := os.Remove(files[i].path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.log.Error("removing an old file of the audit log", "file", files[i].path, "error", err)
		}
	}
}

// isFile reports whether path is that file, rather than another one or none.
func isFile(path string, file *os.File) bool {
	at, err := os.Lstat(path)
	if err != nil {
		return false
	}
	info, err := file.Stat()
	return err == nil && os.SameFile(at, info)
}

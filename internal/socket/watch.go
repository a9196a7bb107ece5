package socket

import (
	"errors"
	"time"
)

// watchEvery is how often the file is looked at. One lstat costs nothing, sees every way in which a file can go, its
// directory's removal included, and a call of the API server waits longer than this (3 s by default).
const watchEvery = time.Second / 2

// watch keeps the socket file in place until Close.
func (l *Listener) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	trouble := ""
	for {
		select {
		case <-l.done:
			return
		case <-tick.C:
			trouble = l.restore(trouble)
		}
	}
}

// restore makes the socket file again if it is not in place. It returns why it could not, empty if all is well, and is
// given what it returned before, so as to tell the log of changes only.
func (l *Listener) restore(before string) (trouble string) {
	if l.inPlace() {
		if before != "" {
			l.log.Info("the socket file is back", "socket", l.addr.Name)
		}
		return ""
	}
	b, err := l.again()
	if err == nil {
		l.serve(b)
		l.log.Warn("the socket file was removed or replaced: made it again", "socket", l.addr.Name)
		return ""
	}
	if err.Error() != before {
		var hint string
		if e, ok := errors.AsType[*Error](err); ok {
			hint = e.Hint
		}
		l.log.Error("the socket file was removed or replaced, and cannot be made again",
			"socket", l.addr.Name, "err", err, "hint", hint)
	}
	return err.Error()
}

func (l *Listener) again() (*bound, error) {
	if l.place == nil {
		return nil, refuse("restart the daemon's .socket unit", "it was made by systemd")
	}
	return l.place.take()
}

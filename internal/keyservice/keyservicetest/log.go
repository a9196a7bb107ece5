package keyservicetest

import (
	"bytes"
	"log/slog"
	"sync"
)

// Log collects what is logged. The zero value is empty and ready; all methods may be called concurrently.
type Log struct {
	mu    sync.Mutex
	lines bytes.Buffer // mu
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

// String returns everything that was logged so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// Logger returns a logger that writes here, whatever the level.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

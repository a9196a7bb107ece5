package daemon

import (
	"io"
	"log/slog"

	"github.com/trousseau-io/trousseau/internal/config"
)

func newLogger(out io.Writer, observe config.Observe, level *slog.LevelVar) *slog.Logger {
	level.Set(levelOf(observe))
	options := &slog.HandlerOptions{Level: level}
	if observe.Log == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

func levelOf(observe config.Observe) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(observe.Level)); err != nil {
		return slog.LevelInfo // the configuration knows no other names than slog's
	}
	return level
}

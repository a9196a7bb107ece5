package daemon

import (
	"errors"

	"github.com/trousseau-io/trousseau/internal/auditlog"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/socket"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// startError is a reason not to start that no other package explains.
type startError struct {
	err  error
	hint string
}

func (e *startError) Error() string { return e.err.Error() }

func (e *startError) Unwrap() error { return e.err }

// Hint returns the operator's next action for an error of this package, or "".
func Hint(err error) string {
	if e, ok := errors.AsType[*socket.Error](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*startError](err); ok {
		return e.hint
	}
	if e, ok := errors.AsType[*auditlog.Error](err); ok {
		return e.Hint
	}
	if _, ok := errors.AsType[*strictyaml.Problems](err); ok {
		return "correct these lines; docs/configuration.md has every field"
	}
	return keyservice.HintOf(err)
}

func joinHints(first, second string) string {
	if first == "" {
		return "correct it, " + second
	}
	return first + ", " + second
}

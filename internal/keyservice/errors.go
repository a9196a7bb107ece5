package keyservice

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what went wrong with a call to a key service. The set is closed: metric labels, gRPC codes, exit codes and
// the choice between waiting and failing are all derived from it.
type Kind uint8

const (
	// Unavailable: no answer, or an answer that says to come back later. Waiting may help.
	Unavailable Kind = iota
	// Throttled: the service limits the rate of calls. Waiting helps.
	Throttled
	// NotFound: the key or the version does not exist (any more).
	NotFound
	// Denied: the credentials are wrong, expired or not allowed to do this.
	Denied
	// Disabled: the key or version exists and somebody switched it off.
	Disabled
	// Corrupt: the wrapped bytes do not open, or the service's answer cannot be right.
	Corrupt
	// Invalid: the request or the configuration can never work as it is.
	Invalid
)

// kinds holds the stable name of every kind, by value.
var kinds = [...]string{"unavailable", "throttled", "not_found", "denied", "disabled", "corrupt", "invalid"}

// String returns the kind's stable name, as metric labels and JSON use it.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return "unknown"
}

// Kinds returns all kinds, in the order of their values.
func Kinds() []Kind {
	all := make([]Kind, len(kinds))
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Outage reports whether the kind is one that passes by itself, rather than somebody's decision or a damage.
func (k Kind) Outage() bool { return k == Unavailable || k == Throttled }

// Error is what the methods of a Key return. It names no secret: a key is named by its id, bytes not at all.
type Error struct {
	Kind Kind
	Op   string // the gerund of what was tried: "wrapping with vault:transit/k8s"
	Hint string // the operator's next action, or empty
	Err  error  // the cause, or nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Op, e.Kind)
	}
	return fmt.Sprintf("%s: %v", e.Op, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Misconfigured is the error of opening the key with this id, whose configuration can never work.
func Misconfigured(id string, err error) error {
	return &Error{Kind: Invalid, Op: "opening " + id, Err: err, Hint: "correct the configuration of the key"}
}

// CheckSize returns the error of the operation op if no Key wraps a secret of this size.
func CheckSize(op string, secret []byte) error {
	if len(secret) > 0 && len(secret) <= MaxSecretSize {
		return nil
	}
	return &Error{
		Kind: Invalid, Op: op, Err: fmt.Errorf("the secret has %d bytes", len(secret)),
		Hint: fmt.Sprintf("wrap secrets of 1 to %d bytes", MaxSecretSize),
	}
}

// KindOf returns the kind of the first *Error in err's chain. An error without one is Unavailable: the set of kinds
// is closed, and only an outage is safe to assume. KindOf panics if err is nil.
func KindOf(err error) Kind {
	if err == nil {
		panic("keyservice: KindOf(nil)")
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Unavailable
}

// HintOf returns the hint of the first *Error in err's chain that has one.
func HintOf(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

// Canceled reports whether err only says that the caller went away: such a call says nothing about the service.
func Canceled(err error) bool { return errors.Is(err, context.Canceled) }

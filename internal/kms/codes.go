package kms

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// grpcCodes maps every kind of error to what the API server sees, in its metric's label grpc_status_code.
var grpcCodes = map[keyservice.Kind]codes.Code{
	keyservice.Unavailable: codes.Unavailable,
	keyservice.Throttled:   codes.ResourceExhausted,
	keyservice.NotFound:    codes.NotFound,
	keyservice.Denied:      codes.PermissionDenied,
	keyservice.Disabled:    codes.FailedPrecondition,
	keyservice.Corrupt:     codes.DataLoss,
	keyservice.Invalid:     codes.InvalidArgument,
}

// grpcError returns err as the API server gets it: with the kind's code, and the hint at the end, because its log is where
// an operator looks first.
func grpcError(err error) error {
	code := grpcCodes[keyservice.KindOf(err)]
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	}
	text := err.Error()
	if hint := keyservice.HintOf(err); hint != "" {
		text += "; " + hint
	}
	return status.Error(code, text)
}

// refusals logs refused calls, each method and kind once a minute: a broken object is read again and again.
type refusals struct {
	mu   sync.Mutex
	last map[refusal]time.Time
}

type refusal struct {
	method string
	kind   keyservice.Kind
}

func (r *refusals) log(log *slog.Logger, method, uid string, err error) {
	if keyservice.Canceled(err) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = make(map[refusal]time.Time)
	}
	what := refusal{method, keyservice.KindOf(err)}
	if now := time.Now(); now.Sub(r.last[what]) >= time.Minute {
		r.last[what] = now
		log.Warn("refusing a call; others like it in the next minute are not logged", "method", method, "uid", uid,
			"kind", what.kind.String(), "error", err, "hint", keyservice.HintOf(err))
	}
}

package upstream

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

var (
	errClosed    = errors.New("the key is closed")
	errSize      = errors.New("the secret is empty or too long")
	errConfig    = errors.New("the configuration cannot work")
	errStored    = errors.New("the wrapped bytes cannot be right")
	errVersion   = errors.New("the wrapped bytes name another key id than that of the version")
	errRefused   = errors.New("the plugin refuses the bytes")
	errAnswer    = errors.New("the plugin's answer cannot be right")
	errUnhealthy = errors.New("the plugin says that it is not well")
	errOldAPI    = errors.New("the plugin does not speak KMS v2")
	errNoSocket  = errors.New("the file is no socket")
	errAway      = errors.New("the plugin cannot be reached")
)

const (
	hintLog     = "look at the plugin's own log: that is where it says more"
	hintBackup  = "the stored bytes were changed, or another plugin made them: restore the object from a backup"
	hintStart   = "start the plugin, and see that it serves this socket"
	hintOther   = "name the socket of a KMS v2 plugin in keys[].upstream.socket"
	hintSlow    = "the plugin did not answer in time: look at its load, and at the key service behind it"
	hintDenied  = "give the plugin valid credentials for the key service behind it: look at its own log"
	hintReplace = "the plugin does not keep to the KMS v2 interface, and kube-apiserver would refuse it too: update or replace it"
)

// rules give each cause its kind. The first that fits counts: by the cause if it has one, else by the gRPC code.
var rules = [...]struct {
	cause error
	code  codes.Code
	kind  keyservice.Kind
	hint  string
}{
	{cause: errClosed, kind: keyservice.Unavailable, hint: "this daemon is shutting down or reloading; try again"},
	{cause: errSize, kind: keyservice.Invalid, hint: "wrap 1 to 60 bytes"},
	{cause: errConfig, kind: keyservice.Invalid, hint: hintOther},
	{cause: errStored, kind: keyservice.Corrupt, hint: hintBackup},
	{cause: errVersion, kind: keyservice.NotFound, hint: hintBackup},
	{cause: errRefused, kind: keyservice.Corrupt, hint: hintBackup},
	{cause: errAnswer, kind: keyservice.Corrupt, hint: hintReplace},
	{cause: errUnhealthy, kind: keyservice.Unavailable, hint: hintLog},
	{cause: errOldAPI, kind: keyservice.Invalid, hint: hintReplace},
	{cause: errNoSocket, kind: keyservice.Invalid, hint: hintOther},
	{cause: syscall.EPROTOTYPE, kind: keyservice.Invalid, hint: hintOther}, // a socket for datagrams
	{cause: fs.ErrNotExist, kind: keyservice.Unavailable, hint: hintStart},
	{cause: fs.ErrPermission, kind: keyservice.Denied,
		hint: "let the daemon's user connect: it needs to write to the socket and to search its directories"},
	{cause: errAway, kind: keyservice.Unavailable, hint: hintStart},

	{code: codes.Unavailable, kind: keyservice.Unavailable, hint: hintLog},
	{code: codes.DeadlineExceeded, kind: keyservice.Unavailable, hint: hintSlow},
	{code: codes.Canceled, kind: keyservice.Unavailable, hint: hintLog},
	{code: codes.Aborted, kind: keyservice.Unavailable, hint: hintLog},
	{code: codes.ResourceExhausted, kind: keyservice.Throttled,
		hint: "raise the limit of the key service behind the plugin, or see who else uses it up"},
	{code: codes.PermissionDenied, kind: keyservice.Denied, hint: hintDenied},
	{code: codes.Unauthenticated, kind: keyservice.Denied, hint: hintDenied},
	{code: codes.NotFound, kind: keyservice.NotFound, hint: "bring the plugin's key, or this version of it, back"},
	{code: codes.FailedPrecondition, kind: keyservice.Disabled, hint: "enable the plugin's key, or this version of it, again"},
	{code: codes.InvalidArgument, kind: keyservice.Invalid,
		hint: "see whether the plugin takes secrets of this size: Kubernetes sends 32 bytes"},
	{code: codes.DataLoss, kind: keyservice.Corrupt, hint: hintBackup},
	{code: codes.Unimplemented, kind: keyservice.Invalid, hint: "use a plugin that speaks KMS v2: this one has v1 only, or is none"},

	// What says nothing may be an outage, and only that is safe to assume. Most plugins answer everything so.
	{code: codes.Unknown, kind: keyservice.Unavailable, hint: hintLog},
	{code: codes.Internal, kind: keyservice.Unavailable, hint: hintLog},
}

// refusal is what a call ended with, in the plugin's words or in gRPC's own.
type refusal struct {
	code codes.Code
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("gRPC code %s: %q", r.code, r.text) }

// maxQuote is how many bytes of a plugin's text an error shows.
const maxQuote = 300

// newRefusal makes an error of a plugin safe to show. sent is what the plugin was sent, which its text may echo.
func newRefusal(err error, sent []byte) *refusal {
	text := status.Convert(err).Message()
	inUTF8 := string([]rune(string(sent))) // which is how gRPC carries what is not
	for _, echo := range []string{inUTF8, hex.EncodeToString(sent), base64.StdEncoding.EncodeToString(sent)} {
		if echo != "" {
			text = strings.ReplaceAll(text, echo, "redacted")
		}
	}
	if len(text) > maxQuote {
		text = text[:maxQuote] + "..."
	}
	return &refusal{status.Code(err), text}
}

// fail returns the error of an operation.
func fail(ctx context.Context, op string, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: ctxErr, Hint: hintSlow}
	}
	said, _ := errors.AsType[*refusal](err)
	for _, r := range rules {
		if r.cause != nil && errors.Is(err, r.cause) || r.cause == nil && said != nil && said.code == r.code {
			return &keyservice.Error{Kind: r.kind, Op: op, Err: err, Hint: r.hint}
		}
	}
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: err, Hint: hintLog}
}

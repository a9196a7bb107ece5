package awskms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/smithy-go"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// answer is what AWS says instead of doing what it was asked for.
type answer struct {
	service, code, message, request string
	status                          int
}

// maxQuote is how many bytes of a message an error shows.
const maxQuote = 300

func (a *answer) Error() string {
	text := fmt.Sprintf("%s says %s", a.service, a.code)
	if a.message != "" {
		text += fmt.Sprintf(": %.*q", maxQuote, a.message)
	}
	if a.request != "" {
		text += " (request " + a.request + ")"
	}
	return text
}

// noCode is what the SDK says of an error without a code.
const noCode = "UnknownError"

// answerOf returns what AWS said, if it did. Its code is empty where whatever answered has none.
func answerOf(err error) *answer {
	a := &answer{service: "AWS"}
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		a.status, a.request = response.HTTPStatusCode(), response.RequestID
	}
	if of, ok := errors.AsType[*smithy.OperationError](err); ok {
		a.service = of.ServiceID
	}
	if said, ok := errors.AsType[smithy.APIError](err); ok && said.ErrorCode() != noCode {
		a.code = said.ErrorCode()
		a.message, _, _ = strings.Cut(said.ErrorMessage(), "\n") // what follows quotes the request
	}
	return a
}

// classify returns the error for a call that failed.
func classify(ctx context.Context, op string, err error) *keyservice.Error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: ctxErr, Hint: hintSlow}
	}
	login, atLogin := errors.AsType[*loginError](err)
	if atLogin {
		err = login.err
	}
	var failure *keyservice.Error
	switch a := answerOf(err); {
	case a.code != "":
		failure = judgeAnswer(a)
	case atLogin:
		failure = judgeLogin(login)
	default:
		failure = judgeCall(err, a.status)
	}
	failure.Op = op
	if atLogin {
		failure.Err = fmt.Errorf("getting credentials: %w", failure.Err)
	}
	return failure
}

func judgeAnswer(a *answer) *keyservice.Error {
	lower := strings.ToLower(a.message)
	for _, r := range rules {
		if r.code == a.code && strings.Contains(lower, r.text) {
			return &keyservice.Error{Kind: r.kind, Hint: r.hint, Err: a}
		}
	}
	if a.status == http.StatusTooManyRequests {
		return &keyservice.Error{Kind: keyservice.Throttled, Hint: hintThrottle, Err: a}
	}
	// A code that nobody knows: what answers may be a proxy, whose word is no denial.
	return &keyservice.Error{Kind: keyservice.Unavailable, Hint: hintNotKMS, Err: a}
}

// judgeLogin is for errors that no answer of AWS caused: files, processes and what could not be reached. A web identity token
// that is not there is an outage: something writes it, perhaps a little later than this daemon starts.
func judgeLogin(login *loginError) *keyservice.Error {
	if login.files {
		return &keyservice.Error{Kind: keyservice.Denied, Err: login.err, Hint: hintFiles}
	}
	if _, ok := errors.AsType[*processcreds.ProviderError](login); ok {
		// The SDK's own words quote what the process printed: secrets, if it printed them wrongly.
		err := errors.New("credential_process printed no credentials that can be read")
		if exit, ok := errors.AsType[*exec.ExitError](login); ok {
			err = fmt.Errorf("credential_process failed: %w", exit)
		}
		return &keyservice.Error{Kind: keyservice.Unavailable, Err: err, Hint: hintProcess}
	}
	return judgeNetwork(login.err, hintNoLogin)
}

// judgeCall is for calls of KMS that KMS did not answer, or not as it does.
func judgeCall(err error, status int) *keyservice.Error {
	if status != 0 && status != http.StatusOK {
		err = fmt.Errorf("what answers is not KMS: it says %d %s", status, http.StatusText(status))
		return &keyservice.Error{Kind: keyservice.Unavailable, Err: err, Hint: hintNotKMS}
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok && !errors.Is(err, io.ErrUnexpectedEOF) {
		// The decoder's own words may quote the answer.
		return damagedAnswer("", errors.New("it is not the JSON that was expected"))
	}
	return judgeNetwork(err, hintAway)
}

func judgeNetwork(err error, hint string) *keyservice.Error {
	if errors.Is(err, context.DeadlineExceeded) {
		hint = hintSlow
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // without the URL and what the SDK wraps around it
	}
	return &keyservice.Error{Kind: keyservice.Unavailable, Err: err, Hint: hint}
}

// damagedAnswer is an answer that says 200 and cannot be right.
func damagedAnswer(op string, err error) *keyservice.Error {
	return &keyservice.Error{
		Kind: keyservice.Corrupt, Op: op, Err: fmt.Errorf("the answer of KMS cannot be right: %w", err), Hint: hintNotKMS,
	}
}

package azurekv

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// classify returns the error for a call that failed.
func classify(ctx context.Context, r request, err error) *keyservice.Error {
	if ctx.Err() != nil {
		return ended(ctx, r.op)
	}
	if login, ok := errors.AsType[*keyservice.Error](err); ok {
		return &keyservice.Error{Kind: login.Kind, Op: r.op, Hint: login.Hint, Err: login}
	}
	if answer, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return judge(r, answer.RawResponse)
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return network(ctx, r.op, err)
	}
	switch text := err.Error(); {
	case strings.Contains(text, "doesn't match the requested domain"):
		return &keyservice.Error{
			Kind: keyservice.Invalid, Op: r.op, Err: errors.New("the vault asks for tokens that are not meant for it"),
			Hint: "see that cloud and vaultURL are right: a vault asks for tokens of the domain that its name is in",
		}
	case strings.Contains(text, "WWW-Authenticate"), strings.Contains(text, "challenge"):
		return notAVault(r.op, errors.New("its challenge to log in is not a vault's"))
	case strings.HasPrefix(text, "unmarshalling type"): // by the SDK, whose words may quote the answer
		return damagedAnswer(r.op, errors.New("it is not the JSON that was expected"))
	}
	return network(ctx, r.op, err)
}

// judge reads a refusal of the vault. One without a code is none of its own.
func judge(r request, answer *http.Response) *keyservice.Error {
	var said struct {
		Error struct {
			Code, Message string
			InnerError    struct{ Code string }
		}
	}
	body, err := runtime.Payload(answer) // which the SDK has read before
	if err == nil {
		err = json.Unmarshal(body, &said)
	}
	got := refusal{answer.StatusCode, said.Error.Code, said.Error.InnerError.Code, r.scrub(said.Error.Message, answer.Request)}
	if foreign := err != nil || got.code == ""; foreign && got.status/100 == 4 && got.status != http.StatusTooManyRequests {
		return notAVault(r.op, got.err())
	}
	if r.unwraps {
		return got.judge(r.op, append(unwrapRules[:len(unwrapRules):len(unwrapRules)], rules...))
	}
	return got.judge(r.op, rules)
}

// scrub takes out of a text what was sent.
func (r request) scrub(text string, sent *http.Request) string {
	echoes := []string{base64.RawURLEncoding.EncodeToString(r.value)}
	if sent != nil {
		echoes = append(echoes, strings.TrimPrefix(sent.Header.Get("Authorization"), "Bearer "))
	}
	return without(text, echoes...)
}

func without(text string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "redacted")
		}
	}
	return text
}

// judge returns the error for a log in that failed; secret is what it may have echoed.
func (w *witness) judge(ctx context.Context, op, secret string) *keyservice.Error {
	switch {
	case ctx.Err() != nil:
		return ended(ctx, op)
	case w.failed != nil:
		return network(ctx, op, w.failed)
	case w.status == 0:
		return notAVault(op, errors.New("the answer to the log in cannot be right"))
	}
	var said struct {
		Error   string
		Text    string `json:"error_description"`
		Message string // of App Service
	}
	_ = json.Unmarshal(w.body, &said) // what is no JSON says nothing
	text := without(cmp.Or(said.Text, said.Message), secret)
	return refusal{status: w.status, code: said.Error, text: text}.judge(op, loginRules)
}

// network returns the error for a request that had no answer.
func network(ctx context.Context, op string, err error) *keyservice.Error {
	if ctx.Err() != nil {
		return ended(ctx, op)
	}
	hint, where := hintAway, ""
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		if u, parseErr := url.Parse(wrapped.URL); parseErr == nil {
			where = u.Host + ": " // without the rest of the URL
		}
		err = wrapped.Err
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		hint = hintSlow
	}
	if isTLS(err) {
		hint = hintTLS
	}
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Hint: hint, Err: fmt.Errorf("%s%w", where, err)}
}

// isTLS reports whether the two sides did not agree on who they are: an outage, since keys and envelopes stay good.
func isTLS(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	return verification || alert || record || authority || errors.Is(err, http.ErrSchemeMismatch)
}

// ended is for a call whose context ended.
func ended(ctx context.Context, op string) *keyservice.Error {
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: ctx.Err(), Hint: hintSlow}
}

// damagedAnswer is an answer that says 200 and cannot be right.
func damagedAnswer(op string, err error) *keyservice.Error {
	return &keyservice.Error{
		Kind: keyservice.Corrupt, Op: op, Err: fmt.Errorf("the service's answer cannot be right: %w", err), Hint: hintOther,
	}
}

// notAVault is an answer that none of the services gives: what is in between has spoken.
func notAVault(op string, err error) *keyservice.Error {
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: fmt.Errorf("what answers is no vault: %w", err), Hint: hintOther}
}

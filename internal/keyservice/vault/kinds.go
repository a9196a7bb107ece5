package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/openbao/openbao/api/v2"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	hintCorrupt = "the stored bytes were changed, or another key or cluster wrapped them: restore the object from a backup"
	hintDenied  = "check that the credential is valid and that the token's policy has the rules of " +
		"`trousseau check --print-policy`"
	hintGone     = "the key or this version of it was deleted: restore it from a backup of the transit key"
	hintDisabled = "lower min_decryption_version or min_encryption_version of the key, or undo its soft deletion"
	hintAway     = "see that the server runs and that this host reaches its address"
	hintSealed   = "the server is sealed: unseal it (`vault operator unseal` or `bao operator unseal`)"
	hintSlow     = "the server did not answer in time: look at its load and at the network between"
	hintTLS      = "check caFile, tlsServerName and the validity of the server's certificate (and this host's clock)"
	hintStandby  = "name the address of every node in addresses, or let standbys forward requests"
	hintNotVault = "see that the address is that of a Vault or OpenBao server, and not of a proxy or another service"
)

// rule gives an answer of the server its kind. The first rule that fits counts.
type rule struct {
	status int    // 0 fits every status, 5 and 3 fit the hundreds
	text   string // in the server's text, in lower case; empty fits every text
	kind   keyservice.Kind
	hint   string
}

// rules were read in the sources of Vault 1.13 (sdk/helper/keysutil/policy.go, sdk/logical/response_util.go,
// builtin/logical/transit) and seen from that server; the texts about soft deletion are OpenBao's.
var rules = []rule{
	{503, "sealed", keyservice.Unavailable, hintSealed},
	{0, "soft-deleted", keyservice.Disabled, hintDisabled},
	{0, "soft deleted", keyservice.Disabled, hintDisabled},
	{400, "message authentication failed", keyservice.Corrupt, hintCorrupt},
	{400, "too old", keyservice.Disabled, hintDisabled},
	{400, "less than the minimum encryption key version", keyservice.Disabled, hintDisabled},
	{400, "encryption key not found", keyservice.NotFound, hintGone},
	{400, "version is too new", keyservice.NotFound, hintGone},
	{400, "higher than the latest key version", keyservice.NotFound, hintGone},
	{400, "no such key version", keyservice.NotFound, hintGone},
	{400, "invalid key version", keyservice.NotFound, hintGone},
	{400, "invalid ciphertext", keyservice.Corrupt, hintCorrupt},
	{400, "wrapping token is not valid", keyservice.Denied, hintSpent},
	{400, "missing client token", keyservice.Denied, hintDenied},
	{400, "", keyservice.Invalid, "check the type and the settings of the key with `trousseau check`"},
	{403, "", keyservice.Denied, hintDenied},
	{404, "", keyservice.NotFound, "see that mount, key and namespace are right and that the key exists"},
	{405, "", keyservice.Invalid, "see that mount is that of a transit engine"},
	{429, "", keyservice.Throttled, "raise the server's rate limit quota for this mount, or see who else uses it up"},
	{3, "", keyservice.Unavailable, hintStandby},
	{412, "", keyservice.Unavailable, hintAway},
	{472, "", keyservice.Unavailable, hintStandby},
	{473, "", keyservice.Unavailable, hintStandby},
	{5, "", keyservice.Unavailable, "look at the server's log"},
	{0, "", keyservice.Invalid, hintNotVault},
}

const hintSpent = "the wrapping token was used or has expired. If nobody here used it, somebody else did: revoke the secret " +
	"id behind it. Put a new wrapping token into the file"

const hintLogin = "check the credential, its role and the mount of the authentication method"

// loginRules come before rules for a log in, where the server says 400 and 500 to credentials that are wrong.
var loginRules = []rule{
	{400, "wrapping token is not valid", keyservice.Denied, hintSpent},
	{400, "", keyservice.Denied, hintLogin},
	{403, "", keyservice.Denied, hintLogin},
	{500, "invalid ", keyservice.Denied, hintLogin},
	{404, "", keyservice.Denied, "see that the authentication method is enabled at this mount and in this namespace"},
	{500, "service account", keyservice.Denied, "check the service account that the role is bound to"},
}

func (r rule) fits(status int, text string) bool {
	return (r.status == 0 || r.status == status || r.status == status/100) && strings.Contains(text, r.text)
}

// judge returns the error for an answer that is not 2xx.
func judge(op string, status int, errs []string, login bool) *keyservice.Error {
	text := strings.Join(errs, "; ")
	lower := strings.ToLower(text)
	table := rules
	if login {
		table = append(loginRules[:len(loginRules):len(loginRules)], rules...)
	}
	for _, r := range table {
		if r.fits(status, lower) {
			return &keyservice.Error{Kind: r.kind, Op: op, Hint: r.hint, Err: answerError(status, text)}
		}
	}
	panic("vault: the last rule fits everything")
}

// maxQuote is how many bytes of a server's text an error shows.
const maxQuote = 300

func answerError(status int, text string) error {
	said := fmt.Sprintf("the server says %d %s", status, http.StatusText(status))
	if text == "" {
		return errors.New(strings.TrimSpace(said))
	}
	if len(text) > maxQuote {
		text = text[:maxQuote] + "..."
	}
	return fmt.Errorf("%s: %q", strings.TrimSpace(said), text)
}

// classify returns the error for a call that failed. secrets are what the server was sent and may have echoed.
func classify(ctx context.Context, op string, err error, r request) *keyservice.Error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: ctxErr, Hint: hintSlow}
	}
	if answer, ok := errors.AsType[*api.ResponseError](err); ok {
		errs := answer.Errors
		if answer.RawError {
			errs = nil // whatever answered, it was no Vault: what it said may be anything
		}
		return judge(op, answer.StatusCode, r.scrub(errs), r.login)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // without the URL, which callers know
	}
	if _, ok := errors.AsType[*certError](err); ok {
		return &keyservice.Error{
			Kind: keyservice.Denied, Op: op, Err: err, Hint: "put a certificate and its key into the files, as PEM",
		}
	}
	if isTLS(err) {
		return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: err, Hint: hintTLS}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: err, Hint: hintSlow}
	}
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: err, Hint: hintAway}
}

// isTLS reports whether the two sides did not agree on who they are. That is an outage, not a refusal: certificates are
// replaced while keys and envelopes stay good.
func isTLS(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	return verification || alert || record || authority || strings.Contains(err.Error(), "remote error: tls:") ||
		errors.Is(err, http.ErrSchemeMismatch)
}

// damagedAnswer is an answer that says 200 and cannot be right.
func damagedAnswer(op string, err error) *keyservice.Error {
	return &keyservice.Error{
		Kind: keyservice.Corrupt, Op: op, Err: fmt.Errorf("the server's answer cannot be right: %w", err), Hint: hintNotVault,
	}
}

// noVersion is the error for a version that this key does not have and never will.
func noVersion(op string, version keyservice.VersionID) *keyservice.Error {
	return &keyservice.Error{
		Kind: keyservice.NotFound, Op: op, Err: fmt.Errorf("the key has no version %q", version), Hint: hintGone,
	}
}

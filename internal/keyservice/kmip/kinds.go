package kmip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	hintCorrupt  = "the stored bytes were changed, or another key or cluster wrapped them: restore the object from a backup"
	hintDenied   = "let the server allow this client certificate to use the key: Locate, Get Attributes, Encrypt, Decrypt, MAC"
	hintLogin    = "put a client certificate that the server accepts, and its key, into clientCertFile and clientKeyFile"
	hintGone     = "the key or this version of it was destroyed, or this client may not see it: restore it from a backup of the server"
	hintState    = "let the key be active, or wrap with another version; `trousseau check` shows the state of each"
	hintArchived = "let the server recover the key from its archive"
	hintUsage    = "make an AES key that may Encrypt and Decrypt and, for mac, an HMAC-SHA256 key that may MAC Generate"
	hintOther    = "see that the server speaks KMIP 1.2 to 1.4 and has this operation; AES-GCM needs 1.4, AES-CBC needs mac"
	hintAway     = "see that the server runs and that this host reaches its address"
	hintSlow     = "the server did not answer in time: look at its load and at the network between"
	hintTLS      = "check caFile, tlsServerName, the client certificate, the validity of all certificates and this host's clock"
	hintLog      = "look at the server's log"
	hintLimit    = "raise the server's limit for this client, or see who else uses it up"
	hintNotKMIP  = "see that the address is that of a KMIP server, and not of a proxy or another service"
)

// rule gives a result reason its name and its kind.
type rule struct {
	name string
	kind keyservice.Kind
	hint string
}

// rules has every result reason of KMIP 1.4 and of 2.1, because servers send those of the newest version that they know,
// whatever was negotiated. A reason that is not in it is a vendor's own: Unavailable.
var rules = map[kmip.ResultReason]rule{
	0x01:  {"item not found", keyservice.NotFound, hintGone},
	0x02:  {"response too large", keyservice.Invalid, "destroy the versions that nothing needs"},
	0x03:  {"authentication not successful", keyservice.Denied, hintLogin},
	0x04:  {"invalid message", keyservice.Invalid, hintOther},
	0x05:  {"operation not supported", keyservice.Invalid, hintOther},
	0x06:  {"missing data", keyservice.Invalid, hintOther},
	0x07:  {"invalid field", keyservice.Invalid, hintOther},
	0x08:  {"feature not supported", keyservice.Invalid, hintOther},
	0x09:  {"operation canceled by requester", keyservice.Unavailable, hintLog},
	0x0A:  {"cryptographic failure", keyservice.Invalid, hintUsage}, // see decryptRules
	0x0B:  {"illegal operation", keyservice.Invalid, hintUsage},
	0x0C:  {"permission denied", keyservice.Denied, hintDenied},
	0x0D:  {"object archived", keyservice.Disabled, hintArchived},
	0x0E:  {"index out of bounds", keyservice.Invalid, hintOther},
	0x0F:  {"application namespace not supported", keyservice.Invalid, hintOther},
	0x10:  {"key format type not supported", keyservice.Invalid, hintUsage},
	0x11:  {"key compression type not supported", keyservice.Invalid, hintUsage},
	0x12:  {"encoding option error", keyservice.Invalid, hintOther},
	0x13:  {"key value not present", keyservice.NotFound, "the server has the key's attributes and not the key: restore it"},
	0x14:  {"attestation required", keyservice.Denied, "use an account that the server wants no attestation of"},
	0x15:  {"attestation failed", keyservice.Denied, "use an account that the server wants no attestation of"},
	0x16:  {"sensitive", keyservice.Invalid, hintOther},
	0x17:  {"not extractable", keyservice.Invalid, hintOther},
	0x18:  {"object already exists", keyservice.Invalid, hintOther},
	0x19:  {"invalid ticket", keyservice.Denied, hintLogin},
	0x1A:  {"usage limit exceeded", keyservice.Disabled, "raise the key's usage limits, or rotate it"},
	0x1B:  {"numeric range", keyservice.Invalid, hintOther},
	0x1C:  {"invalid data type", keyservice.Invalid, hintOther},
	0x1D:  {"read only attribute", keyservice.Invalid, hintOther},
	0x1E:  {"multi valued attribute", keyservice.Invalid, hintOther},
	0x1F:  {"unsupported attribute", keyservice.Invalid, hintOther},
	0x20:  {"attribute instance not found", keyservice.Invalid, hintOther},
	0x21:  {"attribute not found", keyservice.Invalid, hintOther},
	0x22:  {"attribute read only", keyservice.Invalid, hintOther},
	0x23:  {"attribute single valued", keyservice.Invalid, hintOther},
	0x24:  {"bad cryptographic parameters", keyservice.Invalid, hintOther},
	0x25:  {"bad password", keyservice.Denied, hintLogin},
	0x26:  {"codec error", keyservice.Invalid, hintOther},
	0x28:  {"illegal object type", keyservice.Invalid, hintUsage},
	0x29:  {"incompatible cryptographic usage mask", keyservice.Invalid, hintUsage},
	0x2A:  {"internal server error", keyservice.Unavailable, hintLog},
	0x2B:  {"invalid asynchronous correlation value", keyservice.Invalid, hintOther},
	0x2C:  {"invalid attribute", keyservice.Invalid, hintOther},
	0x2D:  {"invalid attribute value", keyservice.Invalid, hintOther},
	0x2E:  {"invalid correlation value", keyservice.Invalid, hintOther},
	0x2F:  {"invalid CSR", keyservice.Invalid, hintOther},
	0x30:  {"invalid object type", keyservice.Invalid, hintUsage},
	0x32:  {"key wrap type not supported", keyservice.Invalid, hintOther},
	0x34:  {"missing initialization vector", keyservice.Invalid, hintOther},
	0x35:  {"non unique name attribute", keyservice.Invalid, hintOther},
	0x36:  {"object destroyed", keyservice.NotFound, hintGone},
	0x37:  {"object not found", keyservice.NotFound, hintGone},
	0x39:  {"not authorised", keyservice.Denied, hintDenied},
	0x3A:  {"server limit exceeded", keyservice.Throttled, hintLimit},
	0x3B:  {"unknown enumeration", keyservice.Invalid, hintOther},
	0x3C:  {"unknown message extension", keyservice.Invalid, hintOther},
	0x3D:  {"unknown tag", keyservice.Invalid, hintOther},
	0x3E:  {"unsupported cryptographic parameters", keyservice.Invalid, hintOther},
	0x3F:  {"unsupported protocol version", keyservice.Invalid, hintOther},
	0x40:  {"wrapping object archived", keyservice.Disabled, hintArchived},
	0x41:  {"wrapping object destroyed", keyservice.NotFound, hintGone},
	0x42:  {"wrapping object not found", keyservice.NotFound, hintGone},
	0x43:  {"wrong key lifecycle state", keyservice.Disabled, hintState},
	0x44:  {"protection storage unavailable", keyservice.Unavailable, hintLog},
	0x45:  {"PKCS#11 codec error", keyservice.Invalid, hintOther},
	0x46:  {"PKCS#11 invalid function", keyservice.Invalid, hintOther},
	0x47:  {"PKCS#11 invalid interface", keyservice.Invalid, hintOther},
	0x48:  {"private protection storage unavailable", keyservice.Unavailable, hintLog},
	0x49:  {"public protection storage unavailable", keyservice.Unavailable, hintLog},
	0x4A:  {"unknown object group", keyservice.Invalid, hintOther},
	0x4B:  {"constraint violation", keyservice.Invalid, hintOther},
	0x4C:  {"duplicate process request", keyservice.Invalid, hintOther},
	0x100: {"general failure", keyservice.Unavailable, hintLog},
}

// decryptRules come before rules for Decrypt.
var decryptRules = map[kmip.ResultReason]rule{
	0x0A: {"cryptographic failure", keyservice.Corrupt, hintCorrupt},
}

// refusal is a server's answer that is no success.
type refusal struct {
	operation kmip.Operation
	reason    kmip.ResultReason
	name      string // of the reason
	message   string // the server's own words, or empty
}

func (r *refusal) Error() string {
	if r.message == "" {
		return fmt.Sprintf("the server says %q to %s", r.name, enum(r.operation))
	}
	return fmt.Sprintf("the server says %q to %s: %q", r.name, enum(r.operation), r.message)
}

// maxQuote is how many bytes of a server's words an error shows.
const maxQuote = 300

// judge returns the error for an answer that is no success.
func judge(op string, request kmip.OperationPayload, item kmip.ResponseBatchItem) *keyservice.Error {
	said := &refusal{operation: request.Operation(), reason: item.ResultReason, message: item.ResultMessage}
	if sent, ok := request.(*payloads.EncryptRequestPayload); ok {
		said.message = scrub(said.message, sent.Data)
	}
	if len(said.message) > maxQuote {
		said.message = said.message[:maxQuote] + "..."
	}
	r, ok := rules[said.reason]
	if !ok {
		r = rule{fmt.Sprintf("reason 0x%X", uint32(said.reason)), keyservice.Unavailable, hintLog}
	}
	if special, ok := decryptRules[said.reason]; ok && said.operation == kmip.OperationDecrypt {
		r = special
	}
	said.name = r.name
	return &keyservice.Error{Kind: r.kind, Op: op, Hint: r.hint, Err: said}
}

// scrub removes a secret, which is not empty, from a server's words: as it is and in hexadecimal digits.
func scrub(text string, secret []byte) string {
	digits := hex.EncodeToString(secret)
	return strings.NewReplacer(string(secret), "redacted", digits, "redacted", strings.ToUpper(digits), "redacted").Replace(text)
}

// classify returns the error for a request that was not answered.
func classify(ctx context.Context, op string, err error) *keyservice.Error {
	if refused, ok := errors.AsType[*keyservice.Error](err); ok && ctx.Err() == nil {
		return &keyservice.Error{Kind: refused.Kind, Op: op, Hint: refused.Hint, Err: refused.Err}
	}
	kind, hint := keyservice.Unavailable, hintAway
	_, malformed := errors.AsType[*malformedError](err)
	_, files := errors.AsType[*filesError](err)
	_, version := errors.AsType[*versionError](err)
	switch {
	case ctx.Err() != nil:
		err, hint = ctx.Err(), hintSlow
	case errors.Is(err, errClosed):
		hint = "open the key again"
	case malformed:
		kind, hint = keyservice.Corrupt, hintNotKMIP
	case files:
		kind, hint = keyservice.Denied, "put a certificate and its key into the files, as PEM, with mode 0600 for the key"
	case version:
		kind, hint = keyservice.Invalid, hintOther
	case refusedCertificate(err):
		kind, hint = keyservice.Denied, hintLogin
	case isTLS(err):
		hint = hintTLS
	case errors.Is(err, context.DeadlineExceeded):
		hint = hintSlow
	}
	return &keyservice.Error{Kind: kind, Op: op, Err: err, Hint: hint}
}

// certificateAlerts are the alerts of TLS with which a server refuses the certificate of a client (RFC 8446, section 6.2).
var certificateAlerts = []tls.AlertError{42, 43, 44, 45, 46, 48, 49, 116}

// refusedCertificate reports whether the server said over the finished connection that it does not take the client's
// certificate. During a handshake (which is when a server says so with TLS 1.2) anybody on the network can say it.
func refusedCertificate(err error) bool {
	if _, early := errors.AsType[*handshakeError](err); early {
		return false
	}
	alert, ok := errors.AsType[*net.OpError](err)
	return ok && alert.Op == "remote error" && slices.ContainsFunc(certificateAlerts, func(a tls.AlertError) bool {
		return alert.Err.Error() == a.Error()
	})
}

// isTLS reports whether the two sides did not agree on who they are. That is an outage: certificates are replaced while
// keys and envelopes stay good.
func isTLS(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	return verification || record || authority || strings.Contains(err.Error(), "remote error: tls:")
}

// damagedAnswer is an answer that says success and cannot be right.
func damagedAnswer(op string, err error) *keyservice.Error {
	return &keyservice.Error{
		Kind: keyservice.Corrupt, Op: op, Err: fmt.Errorf("the server's answer cannot be right: %w", err), Hint: hintNotKMIP,
	}
}

// corrupt is the error for bytes that do not open.
func corrupt(op string, err error) *keyservice.Error {
	return &keyservice.Error{
		Kind: keyservice.Corrupt, Op: op, Err: fmt.Errorf("the wrapped bytes do not open: %w", err), Hint: hintCorrupt,
	}
}

// noVersion is the error for a version that this key does not have.
func noVersion(op string, id keyservice.VersionID) *keyservice.Error {
	return &keyservice.Error{
		Kind: keyservice.NotFound, Op: op, Err: fmt.Errorf("the key has no version %q", id), Hint: hintGone,
	}
}

// enum returns the name of a value of KMIP, or its number.
func enum[T ~uint32](value T) string { return ttlv.EnumStr(value) }

// masks returns the names of the bits of a usage mask.
func masks(usage kmip.CryptographicUsageMask) string { return ttlv.BitmaskStr(usage, ", ") }

package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"cloud.google.com/go/compute/metadata"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc/codes"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	hintAway      = "see that this host reaches the endpoint (DNS, firewall, proxy), and look at status.cloud.google.com"
	hintSlow      = "the service did not answer in time: look at the network between, and at status.cloud.google.com"
	hintTLS       = "something between ends TLS, or the endpoint is not Google's: look at endpoint, at the proxy and at this host's clock"
	hintNotGoogle = "see that endpoint is that of Cloud KMS, and that no proxy between answers in its place"
	hintDamaged   = "something between changes bytes: look at proxies on the way. If it lasts, report it to Google"
	hintCorrupt   = "the stored bytes were changed, or another key or cluster wrapped them: restore the object from a backup"
	hintDenied    = "give the account the role of `trousseau check --print-policy` on this key, and see that the key exists"
	hintPerimeter = "let the account and this host's network into the VPC Service Controls perimeter of the key's project"
	hintToken     = "see that the account behind the credential exists and is enabled"
	hintNotFound  = "see that project, location, key ring and key are right and that the key exists"
	hintDestroyed = "the version is destroyed for good: restore what it wrapped from something else"
	hintRestore   = "stop the destruction: gcloud kms keys versions restore N, then gcloud kms keys versions enable N"
	hintEnable    = "enable the version: gcloud kms keys versions enable N"
	hintWait      = "wait until the version is generated or imported"
	hintState     = "look at the state of the version: gcloud kms keys versions describe N"
	hintAPI       = "enable the API in the project: gcloud services enable cloudkms.googleapis.com"
	hintBilling   = "look at the billing account and the state of the project"
	hintQuota     = "raise the quota of Cloud KMS in this project (IAM & Admin, Quotas), or see who else uses it up"
)

// rule gives an answer of the service its kind. The first rule that fits counts.
type rule struct {
	code   codes.Code
	word   string // in the reasons or the text; empty fits all
	unwrap bool   // fits Decrypt alone
	kind   keyservice.Kind
	hint   string
}

// rules follow google/rpc/code.proto, the reasons of google/api/error_reason.proto, and the types of violated
// preconditions as Cloud KMS names them: KEY_ and the state of the version.
var rules = [...]rule{
	{codes.FailedPrecondition, "KEY_DISABLED", false, keyservice.Disabled, hintEnable},
	{codes.FailedPrecondition, "KEY_DESTROY_SCHEDULED", false, keyservice.Disabled, hintRestore},
	{codes.FailedPrecondition, "KEY_DESTROYED", false, keyservice.NotFound, hintDestroyed},
	{codes.FailedPrecondition, "KEY_PENDING_EXTERNAL_DESTRUCTION", false, keyservice.NotFound, hintDestroyed},
	{codes.FailedPrecondition, "KEY_EXTERNAL_DESTRUCTION_FAILED", false, keyservice.NotFound, hintDestroyed},
	{codes.FailedPrecondition, "KEY_PENDING_", false, keyservice.Disabled, hintWait},
	{codes.FailedPrecondition, "current state is: DESTROYED", false, keyservice.NotFound, hintDestroyed},
	{codes.FailedPrecondition, "API has not been used", false, keyservice.Disabled, hintAPI},
	{codes.FailedPrecondition, "", false, keyservice.Disabled, hintState},
	{codes.PermissionDenied, "SERVICE_DISABLED", false, keyservice.Disabled, hintAPI},
	{codes.PermissionDenied, "BILLING_DISABLED", false, keyservice.Disabled, hintBilling},
	{codes.PermissionDenied, "CONSUMER_SUSPENDED", false, keyservice.Disabled, hintBilling},
	{codes.PermissionDenied, "SECURITY_POLICY_VIOLATED", false, keyservice.Denied, hintPerimeter},
	{codes.PermissionDenied, "", false, keyservice.Denied, hintDenied},
	{codes.Unauthenticated, "", false, keyservice.Denied, hintToken},
	{codes.NotFound, "", false, keyservice.NotFound, hintNotFound},
	{codes.InvalidArgument, "", true, keyservice.Corrupt, hintCorrupt}, // name and size were checked before
	{codes.InvalidArgument, "checksum", false, keyservice.Corrupt, hintDamaged},
	{codes.InvalidArgument, "", false, keyservice.Invalid, hintNotFound},
	{codes.DataLoss, "", false, keyservice.Corrupt, hintDamaged},
	{codes.ResourceExhausted, "", false, keyservice.Throttled, hintQuota},
	{codes.DeadlineExceeded, "", false, keyservice.Unavailable, hintSlow},
	{codes.Unimplemented, "", false, keyservice.Invalid, hintNotGoogle},
	{codes.Unavailable, "tls:", false, keyservice.Unavailable, hintTLS},
	{codes.Unavailable, "x509:", false, keyservice.Unavailable, hintTLS},
}

// classify returns the error for a call that failed.
func classify(ctx context.Context, op string, request any, err error) *keyservice.Error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: ctxErr, Hint: hintSlow}
	}
	answer, ok := apierror.FromError(err)
	if !ok {
		return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: err, Hint: hintAway}
	}
	code, text := answer.GRPCStatus().Code(), answer.GRPCStatus().Message()
	if strings.Contains(text, "unexpected HTTP status code received from server") {
		// gRPC gives it a code, a 403 for instance PermissionDenied. It is not the service's: that answers 200.
		return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: quote(code.String(), text), Hint: hintNotGoogle}
	}
	said := strings.Join(append(reasons(answer), text), " ")
	_, unwrap := request.(*kmspb.DecryptRequest)
	for _, r := range rules {
		if r.code == code && strings.Contains(said, r.word) && (unwrap || !r.unwrap) {
			return &keyservice.Error{Kind: r.kind, Op: op, Err: quote(code.String(), said), Hint: r.hint}
		}
	}
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: quote(code.String(), said), Hint: hintAway}
}

// reasons are the words in the details of an answer that are meant for programs.
func reasons(answer *apierror.APIError) (words []string) {
	if reason := answer.Reason(); reason != "" {
		words = append(words, reason)
	}
	for _, violation := range answer.Details().PreconditionFailure.GetViolations() {
		words = append(words, violation.GetType())
	}
	return words
}

// maxQuote is how many bytes of a server's text an error shows.
const maxQuote = 400

func quote(code, text string) error {
	if len(text) > maxQuote {
		text = text[:maxQuote] + "..."
	}
	return fmt.Errorf("%s: %q", code, text)
}

// damagedAnswer is an answer that says OK and cannot be right.
func damagedAnswer(op string, err error) *keyservice.Error {
	return &keyservice.Error{
		Kind: keyservice.Corrupt, Op: op, Err: fmt.Errorf("the service's answer cannot be right: %w", err), Hint: hintDamaged,
	}
}

// noVersion is the error for a version that this key does not have and never will.
func noVersion(op string, version keyservice.VersionID) *keyservice.Error {
	return &keyservice.Error{
		Kind: keyservice.NotFound, Op: op, Err: fmt.Errorf("the key has no version %q", version),
		Hint: "see that key names the key that wrapped this: a version is another key's if it was made at another time",
	}
}

const (
	hintLogin       = "see that the account exists and is enabled, and that the credential was not revoked"
	hintGrant       = "see that the credential was not revoked, and that this host's clock is right: what it signs is good for minutes"
	hintFederation  = "see that the workload identity pool and its provider exist, take this token and map it to the account"
	hintImpersonate = "let the credential impersonate the account (roles/iam.serviceAccountTokenCreator), and enable " +
		"iamcredentials.googleapis.com"
	hintLoginAway  = "see that this host reaches Google's token servers: oauth2, sts and iamcredentials.googleapis.com"
	hintLoginSlow  = "the token servers did not answer in time: look at the network between"
	hintCredential = "put a credential that works into the file, with mode 0600"
	hintMachine    = "set credentialsFile; without it only virtual machines of Google Cloud with a service account have a credential"
)

// loginRule gives a refusal by a token server its kind. The first rule that fits counts.
type loginRule struct {
	status int
	code   string // empty fits all
	kind   keyservice.Kind
	hint   string
}

// loginRules follow RFC 6749 section 5.2 and RFC 8693 for the token servers, google/rpc/code.proto for impersonation. An
// answer without a code is not Google's: see judgeLogin.
var loginRules = [...]loginRule{
	{400, "invalid_grant", keyservice.Denied, hintGrant},
	{400, "invalid_target", keyservice.Denied, hintFederation},
	{400, "", keyservice.Denied, hintLogin},
	{401, "", keyservice.Denied, hintLogin},
	{403, "", keyservice.Denied, hintImpersonate},
	{404, "", keyservice.Denied, "see that the service account to impersonate exists"},
	{429, "", keyservice.Throttled, "log in from fewer places, or wait"},
}

// refusal is a token server's answer that is not 2xx.
type refusal struct {
	status     int
	code, text string // as the server says, empty if what answered is not Google's
}

func (r *refusal) Error() string {
	said := fmt.Sprintf("the token server says %d %s", r.status, http.StatusText(r.status))
	if r.code == "" {
		return said
	}
	return quote(said, strings.TrimSpace(r.code+" "+r.text)).Error()
}

// judgeLogin returns the error for a log in with a file that failed. Without a request made the fault is in the file; a
// network can cause everything else but a refusal in Google's own form.
func judgeLogin(op string, err error, asked bool) *keyservice.Error {
	refused, ok := errors.AsType[*refusal](err)
	if !ok && !asked {
		return credentialError(op, err)
	}
	if !ok {
		return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: err, Hint: hintLoginAway}
	}
	for _, r := range loginRules {
		if r.status == refused.status && refused.code != "" && (r.code == "" || r.code == refused.code) {
			return &keyservice.Error{Kind: r.kind, Op: op, Err: refused, Hint: r.hint}
		}
	}
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: refused, Hint: hintLoginAway}
}

// judgeMachine returns the error for a machine without a token. That there is no metadata server looks like its outage.
func judgeMachine(op string, err error) *keyservice.Error {
	kind := keyservice.Unavailable
	if _, ok := errors.AsType[metadata.NotDefinedError](err); ok {
		kind = keyservice.Denied // the machine has no service account
	}
	return &keyservice.Error{Kind: kind, Op: op, Err: err, Hint: hintMachine}
}

func credentialError(op string, err error) *keyservice.Error {
	return &keyservice.Error{Kind: keyservice.Denied, Op: op, Err: err, Hint: hintCredential}
}

package awskms_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms/awskmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// documented are the errors of the API references: of KMS for Encrypt, Decrypt, DescribeKey, ListKeyRotations and
// GetKeyRotationStatus, and those that all services have in common.
var documented = []struct {
	status  int
	code    string
	message string
	kind    keyservice.Kind
}{
	{500, "DependencyTimeoutException", "", keyservice.Unavailable},
	{400, "DisabledException", "", keyservice.Disabled},
	{400, "DryRunOperationException", "", keyservice.Invalid},
	{400, "IncorrectKeyException", "", keyservice.Corrupt},
	{400, "InvalidArnException", "", keyservice.Invalid},
	{400, "InvalidCiphertextException", "", keyservice.Corrupt},
	{400, "InvalidGrantTokenException", "", keyservice.Denied},
	{400, "InvalidKeyUsageException", "", keyservice.Invalid},
	{400, "InvalidMarkerException", "", keyservice.Invalid},
	{500, "KeyUnavailableException", "", keyservice.Unavailable},
	{500, "KMSInternalException", "", keyservice.Unavailable},
	{400, "KMSInvalidStateException", "", keyservice.Disabled},
	{400, "LimitExceededException", "", keyservice.Throttled},
	{400, "NotFoundException", "", keyservice.NotFound},
	{400, "UnsupportedOperationException", "", keyservice.Invalid},

	{400, "AccessDeniedException", "User: arn:aws:iam::111122223333:user/u is not authorized to perform: kms:Decrypt", keyservice.Denied},
	{403, "ExpiredTokenException", "", keyservice.Denied},
	{403, "IncompleteSignature", "", keyservice.Denied},
	{403, "IncompleteSignatureException", "", keyservice.Denied},
	{500, "InternalFailure", "", keyservice.Unavailable},
	{500, "InternalError", "", keyservice.Unavailable},
	{500, "InternalServerError", "", keyservice.Unavailable},
	{403, "InvalidClientTokenId", "", keyservice.Denied},
	{403, "InvalidSignatureException", "The request signature we calculated does not match", keyservice.Denied},
	{403, "InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than", keyservice.Unavailable},
	{403, "InvalidSignatureException", "Signature not yet current: 20260101T000000Z is still later than", keyservice.Unavailable},
	{403, "SignatureDoesNotMatch", "", keyservice.Denied},
	{403, "SignatureDoesNotMatch", "Signature expired: 20260101T000000Z", keyservice.Unavailable},
	{403, "SignatureDoesNotMatch", "Signature not yet current: 20260101T000000Z", keyservice.Unavailable},
	{400, "MalformedHttpRequestException", "", keyservice.Invalid},
	{403, "MissingAuthenticationToken", "", keyservice.Denied},
	{403, "MissingAuthenticationTokenException", "", keyservice.Denied},
	{400, "NotAuthorized", "", keyservice.Denied},
	{403, "OptInRequired", "", keyservice.Denied},
	{400, "RequestExpired", "", keyservice.Unavailable},
	{400, "SerializationException", "", keyservice.Invalid},
	{503, "ServiceUnavailable", "", keyservice.Unavailable},
	{503, "ServiceUnavailableException", "", keyservice.Unavailable},
	{400, "Throttling", "", keyservice.Throttled},
	{400, "ThrottlingException", "You have exceeded the rate at which you may call KMS.", keyservice.Throttled},
	{400, "ThrottledException", "", keyservice.Throttled},
	{400, "RequestThrottled", "", keyservice.Throttled},
	{400, "RequestLimitExceeded", "", keyservice.Throttled},
	{429, "TooManyRequestsException", "", keyservice.Throttled},
	{404, "UnknownOperationException", "", keyservice.Invalid},
	{403, "UnrecognizedClientException", "", keyservice.Denied},
	{400, "ValidationException", "", keyservice.Invalid},

	// What nobody documents, such as a proxy's own words, is no denial.
	{403, "ForbiddenByProxy", "", keyservice.Unavailable},
	{429, "SlowDownPlease", "", keyservice.Throttled},
	{502, "", "", keyservice.Unavailable},
}

func TestKinds(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	key := open(t, config(t, fake, fake.CreateKey(false)))
	w := keyservicetest.Wrap(t, key, "")
	for _, c := range documented {
		repair := fake.Fail(awskmstest.Failure{Status: c.status, Code: c.code, Message: c.message})
		_, err := key.Wrap(t.Context(), "", secret, aad)
		keyservicetest.WantKind(t, err, c.kind, c.code)
		_, err = key.Unwrap(t.Context(), w, aad)
		keyservicetest.WantKind(t, err, c.kind, c.message)
		_, _, err = key.Versions(t.Context())
		keyservicetest.WantKind(t, err, c.kind, "listing versions of "+"awskms:"+awskmstest.Account)
		repair()
	}
	keyservicetest.Unwrap(t, key, w)
}

// TestLoginKinds: errors of STS.
func TestLoginKinds(t *testing.T) {
	fake := awskmstest.Start(t)
	t.Setenv("AWS_ENDPOINT_URL_STS", fake.URL)
	c := config(t, fake, fake.CreateKey(false))
	c.AssumeRole = &awskms.AssumeRole{RoleARN: fake.NewRole("trousseau", "", "", time.Hour)}
	for _, e := range []struct {
		status int
		code   string
		kind   keyservice.Kind
	}{
		{403, "AccessDenied", keyservice.Denied},
		{400, "ExpiredTokenException", keyservice.Denied},
		{400, "ExpiredToken", keyservice.Denied},
		{400, "IDPCommunicationError", keyservice.Unavailable},
		{403, "IDPRejectedClaim", keyservice.Denied},
		{400, "InvalidAction", keyservice.Invalid},
		{400, "InvalidIdentityToken", keyservice.Denied},
		{400, "MalformedPolicyDocument", keyservice.Invalid},
		{400, "PackedPolicyTooLarge", keyservice.Invalid},
		{403, "RegionDisabledException", keyservice.Denied},
		{400, "Throttling", keyservice.Throttled},
		{400, "ValidationError", keyservice.Invalid},
		{503, "ServiceUnavailable", keyservice.Unavailable},
		{400, "AssumeRoleUnauthorizedAccess", keyservice.Denied},
	} {
		repair := fake.Fail(awskmstest.Failure{Op: "AssumeRole", Status: e.status, Code: e.code})
		_, err := open(t, c).Wrap(t.Context(), "", secret, aad)
		keyservicetest.WantKind(t, err, e.kind, "getting credentials: STS says "+e.code)
		repair()
	}
	keyservicetest.Wrap(t, open(t, c), "")
}

// TestNotKMS: something else answers.
func TestNotKMS(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	for _, c := range []struct {
		status     int
		body, text string
		kind       keyservice.Kind
	}{
		{200, "<html>welcome</html>", "not the JSON", keyservice.Corrupt},
		{200, "{}", "the ciphertext has 0 bytes", keyservice.Corrupt},
		{403, "<html>log in first</html>", "403 Forbidden", keyservice.Unavailable},
		{403, `{"error": "log in first"}`, "not KMS: it says 403 Forbidden", keyservice.Unavailable},
		{307, "", "307 Temporary Redirect", keyservice.Unavailable},
		{502, "<html>bad gateway</html>", "502 Bad Gateway", keyservice.Unavailable},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.status == 307 {
				w.Header().Set("Location", fake.URL)
			}
			w.WriteHeader(c.status)
			w.Write([]byte(c.body))
		}))
		config := config(t, fake, fake.CreateKey(false))
		config.Endpoint = server.URL
		_, err := open(t, config).Wrap(t.Context(), "", secret, aad)
		keyservicetest.WantKind(t, err, c.kind, c.text)
		if strings.Contains(err.Error(), "log in first") || strings.Contains(err.Error(), "html") {
			t.Errorf("the error quotes what is not KMS: %v", err)
		}
		server.Close()
	}
}

// TestCutAnswer: half an answer is an outage and no damage.
func TestCutAnswer(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "500")
		w.Write([]byte(`{"CiphertextBlob": "AAAA`))
	}))
	defer server.Close()
	c := config(t, fake, fake.CreateKey(false))
	c.Endpoint = server.URL
	_, err := open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "")
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	key := open(t, config(t, fake, fake.CreateKey(false)))
	defer fake.Faults.Set(testserver.Stall)()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := key.Wrap(ctx, "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "deadline exceeded")
	c := config(t, fake, fake.CreateKey(false))
	c.Endpoint = "http://" + testserver.FreeAddress(t)
	_, err = open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "connection refused")
}

// TestSignatureErrorHidesTheRequest: AWS quotes the whole request, session token and all, when a signature is wrong.
func TestSignatureErrorHidesTheRequest(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	c := config(t, fake, fake.CreateKey(false))
	id, _ := fake.NewUser(awskmstest.Account)
	keyservicetest.ReplaceFile(t, c.CredentialsFile, "[default]\naws_access_key_id = "+id+"\naws_secret_access_key = wrong\n")
	_, err := open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "InvalidSignatureException")
	if strings.Contains(err.Error(), "Canonical") || strings.Contains(err.Error(), "x-amz-date") {
		t.Errorf("the error quotes the request: %v", err)
	}
}

// TestClock: AWS refuses requests of a host whose clock is wrong. Its answers correct the clock of the next one.
func TestClock(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		fake := awskmstest.Start(t)
		key := open(t, config(t, fake, fake.CreateKey(false)))
		fake.SetClock(ahead)
		_, err := key.Wrap(t.Context(), "", secret, aad)
		keyservicetest.WantKind(t, err, keyservice.Unavailable, "Signature")
		keyservicetest.Wrap(t, key, "")
	}
}

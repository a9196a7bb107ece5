package gcpkms_test

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// TestKinds has every error that Cloud KMS and the front end before it document.
func TestKinds(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	w := keyservicetest.Wrap(t, key, "")
	reason := func(reason string) protoadapt.MessageV1 {
		return &errdetails.ErrorInfo{Reason: reason, Domain: "googleapis.com"}
	}
	violation := func(name string) protoadapt.MessageV1 {
		return &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: name}}}
	}
	for _, test := range []struct {
		code   codes.Code
		text   string
		detail protoadapt.MessageV1
		wrap   keyservice.Kind
		unwrap keyservice.Kind
	}{
		{codes.FailedPrecondition, "not enabled", violation("KEY_DISABLED"), keyservice.Disabled, keyservice.Disabled},
		{codes.FailedPrecondition, "not enabled", violation("KEY_DESTROY_SCHEDULED"), keyservice.Disabled, keyservice.Disabled},
		{codes.FailedPrecondition, "not enabled", violation("KEY_DESTROYED"), keyservice.NotFound, keyservice.NotFound},
		{codes.FailedPrecondition, "not enabled", violation("KEY_PENDING_GENERATION"), keyservice.Disabled, keyservice.Disabled},
		{codes.FailedPrecondition, "not enabled", violation("KEY_PENDING_IMPORT"), keyservice.Disabled, keyservice.Disabled},
		{codes.FailedPrecondition, "not enabled", violation("KEY_IMPORT_FAILED"), keyservice.Disabled, keyservice.Disabled},
		{codes.FailedPrecondition, "not enabled", violation("KEY_GENERATION_FAILED"), keyservice.Disabled, keyservice.Disabled},
		{codes.FailedPrecondition, "not enabled", violation("KEY_PENDING_EXTERNAL_DESTRUCTION"), keyservice.NotFound, keyservice.NotFound},
		{codes.FailedPrecondition, "not enabled", violation("KEY_EXTERNAL_DESTRUCTION_FAILED"), keyservice.NotFound, keyservice.NotFound},
		{codes.FailedPrecondition, "V is not enabled, current state is: DESTROYED.", nil, keyservice.NotFound, keyservice.NotFound},
		{codes.FailedPrecondition, "V is not enabled, current state is: DISABLED.", nil, keyservice.Disabled, keyservice.Disabled},
		{codes.FailedPrecondition, "Google Cloud KMS API has not been used in this project before", nil, keyservice.Disabled, keyservice.Disabled},
		{codes.PermissionDenied, "API disabled", reason("SERVICE_DISABLED"), keyservice.Disabled, keyservice.Disabled},
		{codes.PermissionDenied, "no billing", reason("BILLING_DISABLED"), keyservice.Disabled, keyservice.Disabled},
		{codes.PermissionDenied, "suspended", reason("CONSUMER_SUSPENDED"), keyservice.Disabled, keyservice.Disabled},
		{codes.PermissionDenied, "perimeter", reason("SECURITY_POLICY_VIOLATED"), keyservice.Denied, keyservice.Denied},
		{codes.PermissionDenied, "no role", reason("IAM_PERMISSION_DENIED"), keyservice.Denied, keyservice.Denied},
		{codes.PermissionDenied, "no role", nil, keyservice.Denied, keyservice.Denied},
		{codes.Unauthenticated, "no token", reason("ACCESS_TOKEN_EXPIRED"), keyservice.Denied, keyservice.Denied},
		{codes.NotFound, "CryptoKey not found", nil, keyservice.NotFound, keyservice.NotFound},
		{codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.", nil, keyservice.Invalid, keyservice.Corrupt},
		{codes.InvalidArgument, "The checksum does not match.", nil, keyservice.Corrupt, keyservice.Corrupt},
		{codes.ResourceExhausted, "Quota exceeded", reason("RATE_LIMIT_EXCEEDED"), keyservice.Throttled, keyservice.Throttled},
		{codes.DeadlineExceeded, "late", nil, keyservice.Unavailable, keyservice.Unavailable},
		{codes.Unavailable, "The service is currently unavailable.", nil, keyservice.Unavailable, keyservice.Unavailable},
		{codes.Internal, "Internal error", nil, keyservice.Unavailable, keyservice.Unavailable},
		{codes.Unknown, "?", nil, keyservice.Unavailable, keyservice.Unavailable},
		{codes.Aborted, "?", nil, keyservice.Unavailable, keyservice.Unavailable},
		{codes.Canceled, "by the server", nil, keyservice.Unavailable, keyservice.Unavailable},
		{codes.DataLoss, "lost", nil, keyservice.Corrupt, keyservice.Corrupt},
		{codes.Unimplemented, "unknown service", nil, keyservice.Invalid, keyservice.Invalid},
	} {
		failure := status.New(test.code, test.text)
		if test.detail != nil {
			failure, _ = failure.WithDetails(test.detail)
		}
		repair := fake.Fail(failure.Err())
		_, err := key.Wrap(t.Context(), w.Version, secret, aad)
		wantKind(t, err, test.wrap, test.text)
		_, err = key.Unwrap(t.Context(), w, aad)
		wantKind(t, err, test.unwrap, test.text)
		repair()
	}
	keyservicetest.RoundTrip(t, key)
}

// TestNotGoogle: what answers in Google's place says nothing about the credential or the key.
func TestNotGoogle(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	c := config(fake)
	for _, code := range []int{401, 403, 404, 407, 429, 500, 503} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(code)
		}))
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		c.Endpoint = server.URL
		_, err := open(t, c, quiet).Wrap(t.Context(), "", secret, aad)
		wantKind(t, err, keyservice.Unavailable, http.StatusText(code))
		server.Close()
	}
}

// TestNoAnswer: nothing that a network does is a refusal.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	c := config(fake)
	certFile, keyFile := testserver.NewCA(t).Issue(t, "endpoint")
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	server := http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go server.Serve(listener)
	for _, test := range []struct{ name, endpoint, text, hint string }{
		{"certificate of an unknown authority", "https://" + listener.Addr().String(), "x509", "TLS"},
		{"no TLS", strings.Replace(fake.Endpoint, "http", "https", 1), "tls", "TLS"},
		{"nobody listens", "http://" + testserver.FreeAddress(t), "connection refused", "endpoint"},
		{"no such host", "https://kms.invalid", "name resolver error", "endpoint"},
	} {
		c.Endpoint = test.endpoint
		_, err := open(t, c, quiet).Wrap(t.Context(), "", secret, aad)
		wantKind(t, err, keyservice.Unavailable, test.text)
		if !strings.Contains(keyservice.HintOf(err), test.hint) {
			t.Errorf("%s: the hint of %v is %q", test.name, err, keyservice.HintOf(err))
		}
	}
}

// TestComesBackAtOnce: after an outage the first call succeeds, however long the outage was.
func TestComesBackAtOnce(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	w := keyservicetest.Wrap(t, key, "")
	repair := fake.Network.Set(testserver.Cut)
	for range 20 { // so that the wait between attempts of gRPC itself would be long
		_, err := key.Unwrap(t.Context(), w, aad)
		wantKind(t, err, keyservice.Unavailable, "")
	}
	repair()
	if _, err := key.Unwrap(t.Context(), w, aad); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

package gcpkms_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms/gcpkmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// eventually waits for what happens beside the calls.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came true that %s", what)
		}
	}
}

// TestWaysToLogIn: service account keys are used by all other tests.
func TestWaysToLogIn(t *testing.T) {
	t.Parallel()
	fake := gcpkmstest.Start(t)
	for name, file := range map[string]string{
		"external_account":              fake.ExternalAccountFile(t, false),
		"external_account impersonates": fake.ExternalAccountFile(t, true),
		"impersonated_service_account":  fake.ImpersonationFile(t),
	} {
		var logged keyservicetest.Log
		c := config(fake)
		c.CredentialsFile = credential.File(file)
		keyservicetest.RoundTrip(t, open(t, c, logged.Logger()))
		kind, _, _ := strings.Cut(name, " ")
		if !strings.Contains(logged.String(), "credential="+kind) {
			t.Errorf("%s: the log says %s", name, logged.String())
		}
	}
}

// TestDefaultCredentials: the variable, else gcloud's file, else the machine.
func TestDefaultCredentials(t *testing.T) {
	fake := gcpkmstest.Start(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("GCE_METADATA_HOST", fake.MetadataHost())
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	c := config(fake)
	c.CredentialsFile = ""
	for _, test := range []struct {
		kind    string
		prepare func()
	}{
		{"compute_metadata", func() {}},
		{"service_account", func() {
			path := filepath.Join(home, ".config/gcloud/application_default_credentials.json")
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			keyservicetest.ReplaceFile(t, credential.File(path), keyservicetest.ReadFile(t, fake.CredentialsFile))
		}},
		{"external_account", func() { t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", fake.ExternalAccountFile(t, false)) }},
	} {
		test.prepare()
		var logged keyservicetest.Log
		keyservicetest.RoundTrip(t, open(t, c, logged.Logger()))
		if !strings.Contains(logged.String(), "credential="+test.kind) {
			t.Errorf("want %s, the log says %s", test.kind, logged.String())
		}
	}
}

// TestNoCredential: that there is no metadata server cannot be told from an outage of it, so it is none of the others.
func TestNoCredential(t *testing.T) {
	fake := gcpkmstest.Start(t)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("GCE_METADATA_HOST", fake.MetadataHost())
	c := config(fake)
	c.CredentialsFile = ""
	key := open(t, c, quiet)
	repair := fake.RefuseLogins()
	_, err := key.Wrap(t.Context(), "", secret, aad)
	wantKind(t, err, keyservice.Denied, "not defined")
	repair()

	repair = fake.Logins.Set(testserver.Stall)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = key.Wrap(ctx, "", secret, aad)
	wantKind(t, err, keyservice.Unavailable, "deadline")
	repair()
	eventually(t, "the key works once the server answers", func() bool {
		_, err := key.Wrap(t.Context(), "", secret, aad)
		return err == nil
	})
}

// TestBadCredentials: the fault is in the file, so nobody has to look at the network.
func TestBadCredentials(t *testing.T) {
	t.Parallel()
	fake := gcpkmstest.Start(t)
	good, external := keyservicetest.ReadFile(t, fake.CredentialsFile), keyservicetest.ReadFile(t, fake.ExternalAccountFile(t, true))
	file := credential.File(filepath.Join(t.TempDir(), "credential"))
	for _, test := range []struct{ name, content, text string }{
		{"no JSON", "ya29.fake-pasted", "no JSON"},
		{"other JSON", "{}", "unsupported"},
		{"unknown type", `{"type": "api_key"}`, "api_key"},
		{"no private key", `{"type": "service_account", "client_email": "a", "token_uri": "http://127.0.0.1:1"}`, "private key"},
		{"broken private key", strings.ReplaceAll(good, "MII", "XXX"), "private key"},
		{"no subject token", strings.Replace(external, "subject-token\"", "none\"", 1), "no such file"},
		{"other pool", strings.Replace(external, "workloadIdentityPools/nodes", "workloadIdentityPools/other", 1), "invalid_grant"},
		{"other account", strings.Replace(external, gcpkmstest.Account, "other@trousseau-test.iam.gserviceaccount.com", 1), "PERMISSION_DENIED"},
		{"revoked key", strings.Replace(good, "0123456789abcdef", "fedcba9876543210", 1), "Invalid JWT Signature"},
	} {
		keyservicetest.ReplaceFile(t, file, test.content)
		c := config(fake)
		c.CredentialsFile = file
		_, err := open(t, c, quiet).Wrap(t.Context(), "", secret, aad)
		t.Log(test.name, err)
		wantKind(t, err, keyservice.Denied, test.text)
	}
	if err := os.Chmod(string(file), 0o644); err != nil {
		t.Fatal(err)
	}
	c := config(fake)
	c.CredentialsFile = file
	_, err := open(t, c, quiet).Wrap(t.Context(), "", secret, aad)
	wantKind(t, err, keyservice.Denied, "chmod")
}

// TestTokenServerAnswers: only a refusal in Google's own form is one. Nothing else of an answer is shown.
func TestTokenServerAnswers(t *testing.T) {
	t.Parallel()
	fake := gcpkmstest.Start(t)
	oauth := `{"error": "invalid_client", "error_description": "The OAuth client was not found."}`
	api := `{"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "no"}}`
	for _, test := range []struct {
		status int
		body   string
		kind   keyservice.Kind
		text   string
	}{
		{400, oauth, keyservice.Denied, "invalid_client"},
		{401, oauth, keyservice.Denied, "invalid_client"},
		{403, api, keyservice.Denied, "PERMISSION_DENIED"},
		{404, api, keyservice.Denied, "404"},
		{429, oauth, keyservice.Throttled, "429"},
		{500, `{"error": "internal_failure"}`, keyservice.Unavailable, "internal_failure"},
		{503, "", keyservice.Unavailable, "503"},
		{403, "<html>log in to the proxy</html>", keyservice.Unavailable, "403 Forbidden"},
		{401, `{"message": "log in to the proxy"}`, keyservice.Unavailable, "401 Unauthorized"},
		{307, "", keyservice.Unavailable, "307 Temporary Redirect"},
		{200, "<html>", keyservice.Unavailable, "token"},
		{400, `{"error": "invalid_request", "error_description": "` + strings.Repeat("x", 5000) + `"}`, keyservice.Denied, "xx..."},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			w.WriteHeader(test.status)
			io.WriteString(w, test.body)
		}))
		c := config(fake)
		c.CredentialsFile = credential.File(filepath.Join(t.TempDir(), "credential"))
		tokenURI := regexp.MustCompile(`http://127.0.0.1:\d+/token`)
		keyservicetest.ReplaceFile(t, c.CredentialsFile, tokenURI.ReplaceAllString(keyservicetest.ReadFile(t, fake.CredentialsFile), server.URL))
		_, err := open(t, c, quiet).Wrap(t.Context(), "", secret, aad)
		server.Close()
		wantKind(t, err, test.kind, test.text)
		if text := err.Error(); strings.Contains(text, "proxy") || strings.Contains(text, "elsewhere") || len(text) > 600 {
			t.Errorf("the error shows too much: %v", err)
		}
	}
}

// TestReplacedCredential: a good one is taken up while the old token is in use, a bad one is reported and does no harm.
func TestReplacedCredential(t *testing.T) {
	t.Parallel()
	fake := gcpkmstest.Start(t)
	c := config(fake)
	content := keyservicetest.ReadFile(t, fake.CredentialsFile)
	c.CredentialsFile = credential.File(filepath.Join(t.TempDir(), "credential"))
	keyservicetest.ReplaceFile(t, c.CredentialsFile, content)
	var logged keyservicetest.Log
	key := open(t, c, logged.Logger())
	keyservicetest.RoundTrip(t, key)

	keyservicetest.ReplaceFile(t, c.CredentialsFile, "half of a")
	eventually(t, "the log tells of the bad credential", func() bool {
		keyservicetest.RoundTrip(t, key)
		return strings.Contains(logged.String(), "logging in failed")
	})
	if n := strings.Count(logged.String(), "logging in failed"); n != 1 {
		t.Errorf("the log tells it %d times", n)
	}
	keyservicetest.ReplaceFile(t, c.CredentialsFile, keyservicetest.ReadFile(t, fake.ExternalAccountFile(t, false)))
	eventually(t, "the new credential is used", func() bool {
		keyservicetest.RoundTrip(t, key)
		return strings.Contains(logged.String(), "credential=external_account")
	})
	if strings.Contains(logged.String(), gcpkmstest.TokenMark) {
		t.Error("the log holds a token")
	}
}

// TestRevokedToken: a token that is refused before its end is replaced without an error.
func TestRevokedToken(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	for range 5 {
		keyservicetest.RoundTrip(t, key)
		fake.RevokeTokens()
	}
	keyservicetest.RoundTrip(t, key)
}

// TestTokenEnds: so is one that has ended, without a call that is refused.
func TestTokenEnds(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	fake.SetTokenLifetime(2 * time.Second)
	for range 3 {
		keyservicetest.RoundTrip(t, key)
		time.Sleep(2100 * time.Millisecond)
	}
	if n := fake.Refused(); n != 0 {
		t.Errorf("%d calls were made with a token that had ended", n)
	}
}

// TestLoginStalls: calls end with their context, the log in goes on, and calls that came later profit.
func TestLoginStalls(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	repair := fake.Logins.Set(testserver.Stall)
	for range 3 {
		keyservicetest.CheckCancelled(t, "during a log in", func(ctx context.Context) error {
			_, err := key.Wrap(ctx, "", secret, aad)
			return err
		})
	}
	done := make(chan error)
	go func() {
		_, err := key.Wrap(t.Context(), "", secret, aad)
		done <- err
	}()
	time.Sleep(20 * time.Millisecond)
	key.Close()
	wantKind(t, <-done, keyservice.Unavailable, "closed")
	repair()
}

// TestNoVariableLogsSecrets: Google's libraries log requests when this variable says so.
func TestNoVariableLogsSecrets(t *testing.T) {
	t.Setenv("GOOGLE_SDK_GO_LOGGING_LEVEL", "debug")
	stderr, path := os.Stderr, filepath.Join(t.TempDir(), "stderr")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = file
	t.Cleanup(func() { os.Stderr = stderr })
	_, key := start(t)
	keyservicetest.RoundTrip(t, key)
	if got := keyservicetest.ReadFile(t, path); got != "" {
		t.Errorf("%d bytes were logged", len(got))
	}
}

func TestOpenContactsNobody(t *testing.T) {
	t.Parallel()
	c := gcpkms.Config{Key: gcpkmstest.Key, Endpoint: "http://127.0.0.1:1", CredentialsFile: "/no/such/file"}
	_, err := open(t, c, quiet).Wrap(t.Context(), "", secret, aad)
	wantKind(t, err, keyservice.Denied, "no such file")
}

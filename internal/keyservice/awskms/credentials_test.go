package awskms_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms/awskmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// profile writes a credentials file with one profile, default, whose requests to STS go to the fake.
func profile(t testing.TB, fake *awskmstest.Fake, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	lines = append([]string{"[services fake]", "sts =", "  endpoint_url = " + fake.URL, "[default]", "services = fake"}, lines...)
	keyservicetest.ReplaceFile(t, path, strings.Join(lines, "\n")+"\n")
	return path
}

// TestDefaultChain logs in with what the SDK finds by itself.
func TestDefaultChain(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, fake *awskmstest.Fake){
		"environment": func(t *testing.T, fake *awskmstest.Fake) {
			id, secretKey := fake.NewUser(awskmstest.Account)
			t.Setenv("AWS_ACCESS_KEY_ID", id)
			t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
		},
		"shared file of the environment": func(t *testing.T, fake *awskmstest.Fake) {
			file, _ := fake.CredentialsFile(t)
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
		},
		"web identity (IRSA)": func(t *testing.T, fake *awskmstest.Fake) {
			token := filepath.Join(t.TempDir(), "token")
			keyservicetest.ReplaceFile(t, token, "jwt")
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
			t.Setenv("AWS_ROLE_ARN", fake.NewRole("irsa", "", "jwt", time.Hour))
			t.Setenv("AWS_ENDPOINT_URL_STS", fake.URL)
		},
		"container": func(t *testing.T, fake *awskmstest.Fake) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", fake.URL+"/container")
			t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", awskmstest.ContainerToken)
		},
		"instance metadata": func(t *testing.T, fake *awskmstest.Fake) {
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", fake.URL)
		},
	} {
		t.Run(name, func(t *testing.T) {
			fake := awskmstest.Start(t)
			prepare(t, fake)
			key := open(t, awskms.Config{KeyARN: fake.CreateKey(false), Endpoint: fake.URL})
			keyservicetest.RoundTrip(t, key)
		})
	}
}

func TestNoCredentials(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	_, err := open(t, awskms.Config{KeyARN: fake.CreateKey(false), Endpoint: fake.URL}).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "getting credentials: ")
	if !strings.Contains(keyservice.HintOf(err), "credentialsFile") {
		t.Errorf("hint %q", keyservice.HintOf(err))
	}
}

// TestStalledMetadata: the lookup delays neither Open nor the end of a cancelled call, and calls work when it answers again.
func TestStalledMetadata(t *testing.T) {
	fake := awskmstest.Start(t)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", fake.URL)
	resume := fake.Faults.Set(testserver.Stall)
	started := time.Now()
	key := open(t, awskms.Config{KeyARN: fake.CreateKey(false), Endpoint: fake.URL})
	if took := time.Since(started); took > 50*time.Millisecond {
		t.Errorf("opening took %v", took)
	}
	keyservicetest.CheckCancelled(t, "during the lookup", func(ctx context.Context) error {
		_, err := key.Wrap(ctx, "", secret, aad)
		return err
	})
	resume()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) { // until the stalled lookup has failed
		_, err := key.Wrap(t.Context(), "", secret, aad)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	id, secretKey := fake.NewUser(awskmstest.Account)
	token := filepath.Join(t.TempDir(), "token")
	keyservicetest.ReplaceFile(t, token, "jwt")
	output := filepath.Join(t.TempDir(), "output")
	keyservicetest.ReplaceFile(t, output, fmt.Sprintf(`{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": %q}`, id, secretKey))
	for name, lines := range map[string][]string{
		"web identity":       {"role_arn = " + fake.NewRole("web", "", "jwt", time.Hour), "web_identity_token_file = " + token},
		"credential process": {"credential_process = /bin/cat " + output},
		"another profile":    {"role_arn = " + fake.NewRole("node", "", "", time.Hour), "source_profile = user", "[user]", "services = fake", "aws_access_key_id = " + id, "aws_secret_access_key = " + secretKey},
	} {
		c := awskms.Config{KeyARN: fake.CreateKey(false), Endpoint: fake.URL, CredentialsFile: profile(t, fake, lines...)}
		if _, err := open(t, c).Wrap(t.Context(), "", secret, aad); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := awskms.Config{KeyARN: fake.CreateKey(false), Endpoint: fake.URL}
	c.CredentialsFile = profile(t, fake, "credential_process = /bin/echo warning: old; /bin/cat "+output)
	_, err := open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "printed no credentials")
	if strings.Contains(err.Error(), secretKey) {
		t.Errorf("the error quotes the credentials: %v", err)
	}
	c.CredentialsFile = profile(t, fake, "credential_process = /bin/false")
	_, err = open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "exit status 1")
	c.CredentialsFile = profile(t, fake, "role_arn = arn:aws:iam::111122223333:role/r", "web_identity_token_file = /nonexistent/token")
	_, err = open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "/nonexistent/token")
	keyservicetest.ReplaceFile(t, c.CredentialsFile, "")
	_, err = open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "is empty")
	c = config(t, fake, fake.CreateKey(false))
	c.Profile = "missing"
	_, err = open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "missing")
}

func TestAssumeRole(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	id, secretKey := fake.NewUser(awskmstest.Account)
	c := awskms.Config{
		KeyARN: fake.CreateKey(false), Endpoint: fake.URL,
		CredentialsFile: profile(t, fake, "aws_access_key_id = "+id, "aws_secret_access_key = "+secretKey),
		AssumeRole:      &awskms.AssumeRole{RoleARN: fake.NewRole("trousseau", "external", "", time.Hour), ExternalID: "external"},
	}
	key := open(t, c)
	for range 3 {
		keyservicetest.Wrap(t, key, "")
	}
	if n := fake.Calls()["AssumeRole"]; n != 1 {
		t.Errorf("%d log ins, want 1", n)
	}
	c.AssumeRole = &awskms.AssumeRole{RoleARN: c.AssumeRole.RoleARN}
	_, err := open(t, c).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "AccessDenied")
}

// TestCredentialsFileIsAlone: what the environment says does not matter beside the file.
func TestCredentialsFileIsAlone(t *testing.T) {
	fake := awskmstest.Start(t)
	c := config(t, fake, fake.CreateKey(false))
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "other")
	t.Setenv("AWS_PROFILE", "other")
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
	keyservicetest.Wrap(t, open(t, c), "")
}

func TestCredentialsFileIsReplaced(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	c := config(t, fake, fake.CreateKey(false))
	key := open(t, c)
	keyservicetest.Wrap(t, key, "")
	fake.Forget()
	_, err := key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "UnrecognizedClientException")
	id, secretKey := fake.NewUser(awskmstest.Account)
	keyservicetest.ReplaceFile(t, c.CredentialsFile, "[default]\naws_access_key_id="+id+"\naws_secret_access_key="+secretKey+"\n")
	keyservicetest.Wrap(t, key, "")
	if err := os.Chmod(c.CredentialsFile, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "chmod 0600")
}

// TestSharedFileIsReplaced: the same for the file that the SDK finds by itself.
func TestSharedFileIsReplaced(t *testing.T) {
	fake := awskmstest.Start(t)
	file, _ := fake.CredentialsFile(t)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	key := open(t, awskms.Config{KeyARN: fake.CreateKey(false), Endpoint: fake.URL})
	keyservicetest.Wrap(t, key, "")
	fake.Forget()
	id, secretKey := fake.NewUser(awskmstest.Account)
	keyservicetest.ReplaceFile(t, file, "[default]\naws_access_key_id="+id+"\naws_secret_access_key="+secretKey+"\n")
	keyservicetest.Wrap(t, key, "")
}

// TestExpiry: sessions are renewed before they end, with the web identity token that is there then.
func TestExpiry(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	token := filepath.Join(t.TempDir(), "token")
	keyservicetest.ReplaceFile(t, token, "one")
	role := fake.NewRole("web", "", "one", 33*time.Second) // what has 30 s left is taken for expired
	key := open(t, awskms.Config{
		KeyARN: fake.CreateKey(false), Endpoint: fake.URL,
		CredentialsFile: profile(t, fake, "role_arn = "+role, "web_identity_token_file = "+token),
	})
	keyservicetest.Wrap(t, key, "")
	keyservicetest.Wrap(t, key, "")
	if n := fake.Calls()["AssumeRoleWithWebIdentity"]; n != 1 {
		t.Errorf("%d log ins within a second, want 1", n)
	}
	fake.SetWebToken(role, "two")
	time.Sleep(3100 * time.Millisecond)
	_, err := key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "InvalidIdentityToken")
	if strings.Contains(err.Error(), "one") {
		t.Error("the error holds the token")
	}
	keyservicetest.ReplaceFile(t, token, "two")
	keyservicetest.Wrap(t, key, "")
}

// TestRevokedSession: a session that AWS refuses before its end is replaced within the call, once it is a few seconds old.
func TestRevokedSession(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	token := filepath.Join(t.TempDir(), "token")
	keyservicetest.ReplaceFile(t, token, "jwt")
	key := open(t, awskms.Config{
		KeyARN: fake.CreateKey(false), Endpoint: fake.URL, CredentialsFile: profile(t, fake,
			"role_arn = "+fake.NewRole("web", "", "jwt", time.Hour), "web_identity_token_file = "+token),
	})
	w := keyservicetest.Wrap(t, key, "")
	time.Sleep(5100 * time.Millisecond)
	fake.Forget()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := key.Unwrap(t.Context(), w, aad); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	repair := fake.Fail(awskmstest.Failure{Status: 400, Code: "AccessDeniedException"})
	for range 50 {
		_, err := key.Unwrap(t.Context(), w, aad)
		keyservicetest.WantKind(t, err, keyservice.Denied, "AccessDeniedException")
	}
	repair()
	keyservicetest.Unwrap(t, key, w)
	if n := fake.Calls()["AssumeRoleWithWebIdentity"]; n != 2 {
		t.Errorf("%d log ins, want 2: a policy that denies must not be a flood", n)
	}
}

// TestEndpoints: without endpoint, requests go to the Region's own addresses (here: through a proxy that refuses them).
func TestEndpoints(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	file, _ := fake.CredentialsFile(t)
	role := &awskms.AssumeRole{RoleARN: "arn:aws:iam::111122223333:role/r"}
	for _, c := range []struct {
		config awskms.Config
		host   string
	}{
		{awskms.Config{KeyARN: "arn:aws:kms:eu-west-3:111122223333:key/a", CredentialsFile: file}, "kms.eu-west-3.amazonaws.com"},
		{awskms.Config{KeyARN: "arn:aws:kms:us-east-2:111122223333:key/a", CredentialsFile: file, FIPS: true}, "kms-fips.us-east-2.amazonaws.com"},
		{awskms.Config{KeyARN: "arn:aws-cn:kms:cn-north-1:111122223333:key/a", CredentialsFile: file}, "kms.cn-north-1.amazonaws.com.cn"},
		{awskms.Config{KeyARN: "arn:aws:kms:eu-west-1:111122223333:key/a", CredentialsFile: file, AssumeRole: role}, "sts.eu-west-1.amazonaws.com"},
		{awskms.Config{KeyARN: "arn:aws:kms:us-west-2:111122223333:key/a", CredentialsFile: file, AssumeRole: role, FIPS: true}, "sts-fips.us-west-2.amazonaws.com"},
	} {
		_, err := open(t, c.config).Wrap(t.Context(), "", secret, aad)
		keyservicetest.WantKind(t, err, keyservice.Unavailable, "Bad Gateway")
		if !strings.Contains(proxied.String(), "CONNECT "+c.host+":443\n") {
			t.Errorf("asked for %s, want %s", proxied.String(), c.host)
		}
	}
}

// TestNothingSecretIsSaid wraps under several errors and looks at all that was logged and printed.
func TestNothingSecretIsSaid(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	file, secretKey := fake.CredentialsFile(t)
	var lines keyservicetest.Log
	c := awskms.Config{KeyARN: fake.SetAlias("alias/k8s", fake.CreateKey(false)), Endpoint: fake.URL, CredentialsFile: file}
	key := keyservicetest.Open(t, awskms.Open, c, lines.Logger())
	keyservicetest.Wrap(t, key, "")
	fake.Forget()
	_, err := key.Wrap(t.Context(), "", secret, aad)
	said := fmt.Sprintf("%s\n%v\n%+v\n%#v\n%+v", lines.String(), err, err, key, c)
	for _, s := range []string{secretKey, string(secret)} {
		if strings.Contains(said, s) {
			t.Errorf("a secret is in:\n%s", said)
		}
	}
	if !strings.Contains(lines.String(), "followed the alias") {
		t.Errorf("logged: %s", lines.String())
	}
}

package awskms_test

import (
	"slices"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms/awskmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// inspect returns the rules that were found, sorted.
func inspect(t *testing.T, key *awskms.Key) []string {
	t.Helper()
	return keyservicetest.Rules(keyservicetest.Inspect(t, key))
}

// withRole returns the configuration of a key that is used with a session that is renewed.
func withRole(t *testing.T, fake *awskmstest.Fake, arn string) awskms.Config {
	t.Helper()
	id, secretKey := fake.NewUser(awskmstest.Account)
	return awskms.Config{
		KeyARN: arn, Endpoint: fake.URL, AssumeRole: &awskms.AssumeRole{RoleARN: fake.NewRole("trousseau", "", "", time.Hour)},
		CredentialsFile: profile(t, fake, "aws_access_key_id = "+id, "aws_secret_access_key = "+secretKey),
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(fake *awskmstest.Fake, arn string)
		want   []string
	}{
		"nothing wrong":    {func(*awskmstest.Fake, string) {}, []string{"awskms-ok"}},
		"rotation off":     {func(f *awskmstest.Fake, arn string) { f.SetAutomaticRotation(arn, false) }, []string{"awskms-rotation-off"}},
		"disabled":         {func(f *awskmstest.Fake, arn string) { f.SetState(arn, "Disabled") }, []string{"awskms-key-state"}},
		"pending deletion": {func(f *awskmstest.Fake, arn string) { f.SetState(arn, "PendingDeletion") }, []string{"awskms-key-state"}},
		"imported":         {func(f *awskmstest.Fake, arn string) { f.SetImported(arn, time.Time{}) }, []string{"awskms-key-imported"}},
		"material expires": {func(f *awskmstest.Fake, arn string) { f.SetImported(arn, time.Now().Add(time.Hour)) },
			[]string{"awskms-key-imported", "awskms-material-expires"}},
		"clock": {func(f *awskmstest.Fake, _ string) { f.SetClock(2 * time.Minute) }, []string{"awskms-clock-skew"}},
		"rotations not listed": {func(f *awskmstest.Fake, _ string) {
			f.Fail(awskmstest.Failure{Op: "ListKeyRotations", Status: 400, Code: "AccessDeniedException"})
			f.Fail(awskmstest.Failure{Op: "GetKeyRotationStatus", Status: 400, Code: "AccessDeniedException"})
		}, []string{"awskms-rotation-unknown", "awskms-rotations-unknown"}},
		"may not encrypt": {func(f *awskmstest.Fake, _ string) {
			f.Fail(awskmstest.Failure{Op: "Encrypt", Status: 400, Code: "AccessDeniedException"})
		}, []string{"awskms-wrap-fails"}},
		"encryption context ignored": {func(f *awskmstest.Fake, _ string) { f.IgnoreContext() }, []string{"awskms-aad-ignored"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := awskmstest.Start(t)
			arn := fake.CreateKey(false)
			key := open(t, withRole(t, fake, arn))
			c.change(fake, arn)
			if got := inspect(t, key); !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestInspectAlias(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	key := open(t, withRole(t, fake, fake.SetAlias("alias/k8s", fake.CreateKey(false))))
	if got := inspect(t, key); !slices.Equal(got, []string{"awskms-alias"}) {
		t.Errorf("found %q", got)
	}
	other := fake.CreateKey(false)
	fake.SetAlias("alias/k8s", other)
	if got := inspect(t, key); !slices.Equal(got, []string{"awskms-alias-moved"}) {
		t.Errorf("after the alias was moved: found %q", got)
	}
	fake.Delete(other)
	if got := inspect(t, key); !slices.Equal(got, []string{"awskms-alias-gone"}) {
		t.Errorf("after the alias led nowhere: found %q", got)
	}
}

func TestInspectCredentials(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	c := config(t, fake, fake.CreateKey(false))
	if got := inspect(t, open(t, c)); !slices.Equal(got, []string{"awskms-long-lived-key"}) {
		t.Errorf("access key: found %q", got)
	}
	id, secretKey, token := fake.NewSession(time.Hour)
	keyservicetest.ReplaceFile(t, c.CredentialsFile, "[default]\naws_access_key_id="+id+"\naws_secret_access_key="+secretKey+
		"\naws_session_token="+token+"\n")
	if got := inspect(t, open(t, c)); !slices.Equal(got, []string{"awskms-session-ends"}) {
		t.Errorf("session: found %q", got)
	}
	fake.Forget()
	_, err := open(t, c).Inspect(t.Context())
	keyservicetest.WantKind(t, err, keyservice.Denied, "UnrecognizedClientException")
}

package awskms_test

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms/awskmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// proxied are the hosts that were asked for through the proxy that the environment names: all but this one.
var proxied keyservicetest.Log

// TestMain takes away what the machine's environment says about AWS, and the metadata of an instance that it may run on.
// Nothing leaves this machine: the proxy refuses everything. (Go reads the variable once in the life of a process.)
func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(&proxied, r.Method, r.Host)
		w.WriteHeader(http.StatusBadGateway)
	}))
	os.Setenv("HTTPS_PROXY", proxy.URL)
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("HOME", "/nonexistent")
	os.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
	os.Exit(m.Run())
}

var secret, aad = []byte(keyservicetest.Secret), []byte(keyservicetest.AAD)

// config returns the configuration of a key, with a user's access key in a file.
func config(t testing.TB, fake *awskmstest.Fake, arn string) awskms.Config {
	t.Helper()
	file, _ := fake.CredentialsFile(t)
	return awskms.Config{KeyARN: arn, Endpoint: fake.URL, CredentialsFile: file}
}

func open(t testing.TB, c awskms.Config) *awskms.Key {
	t.Helper()
	return keyservicetest.Open(t, awskms.Open, c, nil)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
		fake := awskmstest.Start(t)
		arn := fake.CreateKey(true)
		file, secretKey := fake.CredentialsFile(t)
		c := awskms.Config{KeyARN: arn, Endpoint: fake.URL, CredentialsFile: file}
		state := func(state string) func(*testing.T) func() {
			return func(*testing.T) func() {
				fake.SetState(arn, state)
				return func() { fake.SetState(arn, "Enabled") }
			}
		}
		failing := func(status int, code string) func(*testing.T) func() {
			return func(*testing.T) func() { return fake.Fail(awskmstest.Failure{Status: status, Code: code}) }
		}
		fault := func(fault testserver.Fault) func(*testing.T) func() {
			return func(*testing.T) func() { return fake.Faults.Set(fault) }
		}
		return keyservicetest.Harness{
			Open: func(t *testing.T, log *slog.Logger) keyservice.Key {
				return keyservicetest.Open(t, awskms.Open, c, log)
			},
			Form:         awskms.Describe().Forms[0],
			CannotChoose: true,
			Rotate:       func(*testing.T) { fake.Rotate(arn) },
			Secrets:      []string{secretKey},
			Stall:        func(*testing.T) func() { return fake.Faults.Set(testserver.Stall) },
			Faults: []keyservicetest.ServiceFault{
				{Name: "connection cut", Kind: keyservice.Unavailable, Break: fault(testserver.Cut)},
				{Name: "internal failure", Kind: keyservice.Unavailable, Break: failing(500, "KMSInternalException")},
				{Name: "throttled", Kind: keyservice.Throttled, Break: failing(400, "ThrottlingException")},
				{Name: "policy taken away", Kind: keyservice.Denied, Break: failing(400, "AccessDeniedException")},
				{Name: "damaged answers", Kind: keyservice.Corrupt, Break: fault(testserver.Garble)},
				{Name: "disabled", Kind: keyservice.Disabled, Break: state("Disabled")},
				{Name: "pending deletion", Kind: keyservice.Disabled, Break: state("PendingDeletion")},
				{Name: "another kind of key", Kind: keyservice.Invalid, Break: func(*testing.T) func() {
					fake.SetSpec(arn, "RSA_2048", "ENCRYPT_DECRYPT")
					return func() { fake.SetSpec(arn, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT") }
				}},
				{Name: "deleted", Kind: keyservice.NotFound, Break: func(*testing.T) func() { fake.Delete(arn); return nil }},
			},
		}
	})
}

func TestOpenAsksNobody(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	c := config(t, fake, fake.CreateKey(false))
	c.CredentialsFile = "/nonexistent/credentials"
	key := open(t, c)
	if calls := fake.Calls(); len(calls) > 0 {
		t.Errorf("opening called %v", calls)
	}
	_, err := key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "/nonexistent/credentials")
}

// TestCalls: to wrap takes two calls, to unwrap one, and none is retried.
func TestCalls(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	key := open(t, config(t, fake, fake.CreateKey(false)))
	keyservicetest.RoundTrip(t, key)
	if got, want := fake.Calls(), (map[string]int{"Encrypt": 1, "Decrypt": 2}); !maps.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
	fake.Fail(awskmstest.Failure{Status: 500, Code: "KMSInternalException"})
	_, err := key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "KMS says KMSInternalException (request 00000000-1111-2222-3333-444444444444)")
	if n := fake.Calls()["Encrypt"]; n != 2 {
		t.Errorf("%d calls of Encrypt, want 2", n)
	}
}

// TestLeastPolicy: the policy allows exactly what the key calls.
func TestLeastPolicy(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	c := config(t, fake, fake.CreateKey(false))
	key := open(t, c)
	keyservicetest.RoundTrip(t, key)
	keyservicetest.Versions(t, key)
	if _, err := key.Inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	policy := c.LeastPolicy()
	called := slices.Sorted(maps.Keys(fake.Calls()))
	for _, op := range called {
		if !strings.Contains(policy, `"kms:`+op+`"`) {
			t.Errorf("the policy does not allow %s", op)
		}
	}
	if actions := strings.Count(policy, `"kms:`) - 1; actions != len(called) { // one is the condition
		t.Errorf("the policy allows %d actions, called were %q", actions, called)
	}
	alias := awskms.Config{KeyARN: "arn:aws:kms:eu-central-1:111122223333:alias/k8s"}.LeastPolicy()
	for _, part := range []string{`"arn:aws:kms:eu-central-1:111122223333:key/*"`, `"kms:ResourceAliases": "alias/k8s"`} {
		if strings.Count(alias, part) != 2 {
			t.Errorf("the policy for an alias does not have %s twice:\n%s", part, alias)
		}
	}
	manual, err := os.ReadFile("../../../docs/keyservices/awskms.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := awskms.Config{KeyARN: "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"}
	if !strings.Contains(string(manual), documented.LeastPolicy()) {
		t.Errorf("the manual does not have this policy:\n%s", documented.LeastPolicy())
	}
}

func TestConcurrentLogin(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	c := config(t, fake, fake.SetAlias("alias/k8s", fake.CreateKey(false)))
	key := open(t, c)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := key.Wrap(t.Context(), "", secret, aad); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

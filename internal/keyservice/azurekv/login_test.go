package azurekv_test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv/azurekvtest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

const stranger = "00000000-0000-4000-8000-000000000001"

// methods returns every way to log in to a fake. Managed identities need the environment of onMachine.
func methods(t *testing.T, fake *azurekvtest.Fake) map[string]azurekv.Auth {
	t.Helper()
	certFile, keyFile := fake.NewClientCertificate(t, time.Now().Add(365*24*time.Hour))
	return map[string]azurekv.Auth{
		"client secret": {ClientSecret: &azurekv.ClientSecret{
			TenantID: strings.ToUpper(fake.TenantID), ClientID: fake.ClientID, SecretFile: file(t, clientSecret),
		}},
		"client certificate": {ClientCertificate: &azurekv.ClientCertificate{
			TenantID: fake.TenantID, ClientID: fake.ClientID, CertFile: certFile, KeyFile: credential.File(keyFile),
		}},
		"workload identity": {WorkloadIdentity: &azurekv.WorkloadIdentity{
			TenantID: fake.TenantID, ClientID: fake.ClientID, TokenFile: file(t, fake.FederatedToken(t, time.Now().Add(time.Hour))),
		}},
		"system-assigned identity": {ManagedIdentity: &azurekv.ManagedIdentity{}},
		"user-assigned identity":   {ManagedIdentity: &azurekv.ManagedIdentity{ClientID: fake.ClientID}},
	}
}

// onMachine makes this process run on a machine with an identity. The SDK keeps the tokens of machines for the whole process,
// by what they are for, so the fake's are for something of its own.
func onMachine(t *testing.T, fake *azurekvtest.Fake) {
	t.Helper()
	t.Setenv("IDENTITY_ENDPOINT", fake.IdentityEndpoint)
	t.Setenv("IDENTITY_HEADER", fake.IdentityHeader)
	fake.SetResource("https://" + rand.Text() + ".example.com")
}

func TestEveryMethodLogsIn(t *testing.T) {
	fake, config := fixture(t, aes)
	onMachine(t, fake)
	for name, auth := range methods(t, fake) {
		config.Auth = auth
		before := fake.Logins()
		var log keyservicetest.Log
		key := keyservicetest.Open(t, azurekv.Open, config, log.Logger())
		keyservicetest.RoundTrip(t, key)
		keyservicetest.RoundTrip(t, key)
		if n := fake.Logins() - before; n != 1 || strings.Count(log.String(), "logged in") != 1 {
			t.Errorf("%s: %d log ins, logged %q", name, n, log.String())
		}
	}
}

func TestWrongCredentialsAreDenied(t *testing.T) {
	fake, config := fixture(t, aes)
	onMachine(t, fake)
	good := methods(t, fake)
	fake.NewClientCertificate(t, time.Now().Add(time.Hour)) // instead of the one that is configured
	withSecret := func(change func(*azurekv.ClientSecret)) azurekv.Auth {
		c := *good["client secret"].ClientSecret
		change(&c)
		return azurekv.Auth{ClientSecret: &c}
	}
	exposed := file(t, clientSecret)
	if err := os.Chmod(string(exposed), 0o644); err != nil {
		t.Fatal(err)
	}
	assertion := *good["workload identity"].WorkloadIdentity
	assertion.TokenFile = file(t, "eyJhbGciOiJub25lIn0.e30.AA")
	noPair := *good["client certificate"].ClientCertificate
	noPair.KeyFile = file(t, "no key")
	for name, test := range map[string]struct {
		auth azurekv.Auth
		text string
	}{
		"wrong secret":      {withSecret(func(c *azurekv.ClientSecret) { c.SecretFile = file(t, "wrong") }), "AADSTS7000215"},
		"no secret":         {withSecret(func(c *azurekv.ClientSecret) { c.SecretFile = "/does/not/exist" }), "no such file"},
		"exposed secret":    {withSecret(func(c *azurekv.ClientSecret) { c.SecretFile = exposed }), "chmod 0600"},
		"unknown client":    {withSecret(func(c *azurekv.ClientSecret) { c.ClientID = stranger }), "AADSTS700016"},
		"other directory":   {withSecret(func(c *azurekv.ClientSecret) { c.TenantID = stranger }), "the application is in"},
		"other certificate": {good["client certificate"], "AADSTS700027"},
		"no pair":           {azurekv.Auth{ClientCertificate: &noPair}, "no pair of PEM files"},
		"forged assertion":  {azurekv.Auth{WorkloadIdentity: &assertion}, "AADSTS"},
		"not assigned":      {azurekv.Auth{ManagedIdentity: &azurekv.ManagedIdentity{ClientID: stranger}}, "Managed Identity found"},
	} {
		t.Run(name, func(t *testing.T) {
			config.Auth = test.auth
			_, _, err := open(t, config).Versions(t.Context())
			wantKind(t, err, keyservice.Denied, test.text)
		})
	}
}

// TestReplacedFilesAreUsed lets tokens end, replaces what the log in needs, and expects no restart.
func TestReplacedFilesAreUsed(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, aes)
	fake.SetTokenLifetime(time.Second)
	auth := methods(t, fake)
	token, cert := auth["workload identity"].WorkloadIdentity.TokenFile, auth["client certificate"].ClientCertificate
	var newCert, newKey string
	for name, replace := range map[string]struct{ atService, inFile func() }{
		"client secret": {
			func() { fake.SetClientSecret("new") },
			func() { keyservicetest.ReplaceFile(t, auth["client secret"].ClientSecret.SecretFile, "new") },
		},
		"workload identity": {
			func() { keyservicetest.ReplaceFile(t, token, fake.FederatedToken(t, time.Now().Add(-time.Minute))) }, // as if it had aged
			func() { keyservicetest.ReplaceFile(t, token, fake.FederatedToken(t, time.Now().Add(time.Hour))) },
		},
		"client certificate": {
			func() { newCert, newKey = fake.NewClientCertificate(t, time.Now().Add(time.Hour)) },
			func() {
				for from, to := range map[string]string{newCert: cert.CertFile, newKey: string(cert.KeyFile)} {
					if err := os.Rename(from, to); err != nil {
						t.Fatal(err)
					}
				}
			},
		},
	} {
		config.Auth = auth[name]
		key := open(t, config)
		keyservicetest.RoundTrip(t, key)
		replace.atService()
		time.Sleep(2100 * time.Millisecond) // the time in a token has a resolution of one second
		_, _, err := key.Versions(t.Context())
		wantKind(t, err, keyservice.Denied, "AADSTS")
		replace.inFile()
		keyservicetest.RoundTrip(t, key)
	}
}

// TestWaitingForALoginEndsWithTheContext has two callers wait for one token that never comes: the SDK heeds the context of the
// first alone.
func TestWaitingForALoginEndsWithTheContext(t *testing.T) {
	fake, config := fixture(t, aes)
	onMachine(t, fake)
	fake.Entra.Set(testserver.Stall)
	fake.Identity.Set(testserver.Stall)
	for name, auth := range methods(t, fake) {
		config.Auth = auth
		key := open(t, config)
		first, endFirst := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := key.Versions(first); !keyservice.Canceled(err) {
				t.Errorf("%s: %v", name, err)
			}
		})
		time.Sleep(100 * time.Millisecond)
		second, endSecond := context.WithCancel(t.Context())
		cancelled := make(chan time.Time, 1)
		time.AfterFunc(50*time.Millisecond, func() {
			cancelled <- time.Now()
			endSecond()
		})
		_, _, err := key.Versions(second)
		if took := time.Since(<-cancelled); took > 50*time.Millisecond || !keyservice.Canceled(err) {
			t.Errorf("%s: %v, %s after the context ended", name, err, took)
		}
		endFirst()
		wg.Wait()
	}
}

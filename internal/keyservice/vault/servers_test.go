package vault_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// fixture is a server, a key in it and a token file, for tests that break the way between.
func fixture(t *testing.T) (engine, vault.Auth) {
	t.Helper()
	e := newEngine(t, testserver.StartVault(t), "transit")
	return e, vault.Auth{TokenFile: secretFile(t, e.token(t, nil))}
}

func TestFailover(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	sealed := testserver.StartVault(t)
	sealed.Seal()
	dead := "http://" + testserver.FreeAddress(t)

	var lines keyservicetest.Log
	key := open(t, e.config(auth, dead, sealed.Address, e.Address), lines.Logger())
	keyservicetest.RoundTrip(t, key)
	keyservicetest.RoundTrip(t, key)
	if n := strings.Count(lines.String(), "using another server"); n != 1 {
		t.Errorf("told %d times about the failover, want once:\n%s", n, lines.String())
	}

	key = open(t, e.config(auth, dead, sealed.Address), nil)
	_, err := key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "Vault is sealed")
	if !strings.Contains(keyservice.HintOf(err), "unseal") || !strings.Contains(err.Error(), dead) ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("%v (hint: %s)", err, keyservice.HintOf(err))
	}
}

// TestFailoverFromAServerThatStalls leaves time for the next address within one deadline.
func TestFailoverFromAServerThatStalls(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	p := newProxy(t, e.Address)
	key := open(t, e.config(auth, p.URL, e.Address), nil)
	w := keyservicetest.Wrap(t, key, "")
	p.set(stall)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := key.Unwrap(ctx, w, aad); err != nil {
		t.Error(err)
	}
	start := time.Now()
	keyservicetest.RoundTrip(t, key)
	if took := time.Since(start); took > 300*time.Millisecond {
		t.Errorf("the server that stalls was asked again: %v", took)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	p := newProxy(t, e.Address)
	key := open(t, e.config(auth, p.URL), nil)
	w := keyservicetest.Wrap(t, key, "")
	p.set(stall)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := key.Unwrap(ctx, w, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "")
	if !errors.Is(err, context.DeadlineExceeded) || keyservice.Canceled(err) {
		t.Errorf("error %v", err)
	}
}

// TestDamagedAnswers breaks the answers of a server that is well, each in a way of its own.
func TestDamagedAnswers(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	p := newProxy(t, e.Address)
	key := open(t, e.config(auth, p.URL), nil)
	w := keyservicetest.Wrap(t, key, "")
	for fault, kind := range map[fault]keyservice.Kind{
		cut: keyservice.Unavailable, half: keyservice.Unavailable, failing: keyservice.Unavailable, endless: keyservice.Unavailable,
		garbage: keyservice.Corrupt, noContent: keyservice.Corrupt, page: keyservice.Corrupt,
	} {
		repair := p.set(fault)
		_, err := key.Wrap(t.Context(), w.Version, secret, aad)
		keyservicetest.WantKind(t, err, kind, "")
		_, err = key.Unwrap(t.Context(), w, aad)
		keyservicetest.WantKind(t, err, kind, "")
		_, _, err = key.Versions(t.Context())
		keyservicetest.WantKind(t, err, kind, "")
		repair()
		keyservicetest.RoundTrip(t, key)
	}
}

// TestAnswersOfAnotherVersion refuses a ciphertext that is not of the version that was asked for.
func TestAnswersOfAnotherVersion(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"other prefix":      `{"ciphertext":"vault:v2:` + strings.Repeat("AAAA", 20) + `","key_version":1}`,
		"other key_version": `{"ciphertext":"vault:v1:` + strings.Repeat("AAAA", 20) + `","key_version":2}`,
		"too short":         `{"ciphertext":"vault:v1:AAAA","key_version":1}`,
		"no base64":         `{"ciphertext":"vault:v1:` + strings.Repeat("@", 80) + `","key_version":1}`,
		"nothing":           `{}`,
		"null":              `null`,
	}
	for name, data := range answers {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.Contains(r.URL.Path, "/keys/"):
				w.Write([]byte(`{"data":{"type":"aes256-gcm96","latest_version":1,"keys":{"1":1700000000}}}`))
			case strings.Contains(r.URL.Path, "/encrypt/"):
				w.Write([]byte(`{"data":` + data + `}`))
			default:
				w.WriteHeader(http.StatusForbidden)
			}
		}))
		defer server.Close()
		c := vault.Config{Addresses: []string{server.URL}, Mount: "transit", Key: "k8s",
			Auth: vault.Auth{TokenFile: secretFile(t, "token")}}
		_, err := open(t, c, nil).Wrap(t.Context(), "", secret, aad)
		if err == nil || keyservice.KindOf(err) != keyservice.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRedirectsAreNotFollowed: a token must not reach a host that the configuration does not name.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	var visits atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	defer elsewhere.Close()
	p := newProxy(t, e.Address)
	p.other = elsewhere.URL
	p.set(redirect)
	_, err := open(t, e.config(auth, p.URL), nil).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "redirects")
	keyservicetest.RoundTrip(t, open(t, e.config(auth, p.URL, e.Address), nil)) // a standby is passed over
	if visits.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

// TestEchoedSecretsAreNotQuoted has a server that puts what it was sent into its error.
func TestEchoedSecretsAreNotQuoted(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	p := newProxy(t, e.Address)
	var lines keyservicetest.Log
	key := open(t, e.config(auth, p.URL), lines.Logger())
	w := keyservicetest.Wrap(t, key, "")
	p.set(echo)
	_, err := key.Wrap(t.Context(), w.Version, secret, aad)
	token := strings.TrimSpace(keyservicetest.ReadFile(t, auth.TokenFile))
	for _, leak := range []string{token, string(secret), "MDEyMzQ1Njc4OWFiY2RlZjAx"} {
		if err == nil || strings.Contains(err.Error()+lines.String(), leak) {
			t.Errorf("%q is in the error or the log: %v", leak, err)
		}
	}
}

// TestTLS: certificate problems are outages with a hint of their own, and a CA file may be replaced.
func TestTLS(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t, testserver.WithTLS())
	e := newEngine(t, v, "transit")
	auth := vault.Auth{TokenFile: secretFile(t, e.token(t, nil))}
	other := testserver.NewCA(t)

	c := e.config(auth)
	c.CAFile = other.File
	_, err := open(t, c, nil).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "unknown authority")
	if !strings.Contains(keyservice.HintOf(err), "caFile") {
		t.Errorf("hint %q", keyservice.HintOf(err))
	}

	c = e.config(auth)
	c.TLSServerName = "another.example.com"
	_, err = open(t, c, nil).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "another.example.com")

	c = e.config(auth)
	c.CAFile = filepath.Join(t.TempDir(), "missing.pem")
	_, err = vault.Open(t.Context(), c, slog.New(slog.DiscardHandler))
	keyservicetest.WantKind(t, err, keyservice.Invalid, "missing.pem")

	c = e.config(auth)
	c.CAFile = string(secretFile(t, keyservicetest.ReadFile(t, other.File)))
	key := open(t, c, nil)
	_, err = key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "unknown authority")
	if err := os.WriteFile(c.CAFile, []byte(keyservicetest.ReadFile(t, v.CA.File)), 0o644); err != nil {
		t.Fatal(err)
	}
	keyservicetest.RoundTrip(t, key)
}

// TestMutualTLS gives a certificate to a listener that asks for one, with another method to log in.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	ca := testserver.NewCA(t)
	p := newProxy(t, e.Address)
	front := httptest.NewUnstartedServer(p)
	cert, key := ca.Issue(t, "front")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	front.StartTLS()
	defer front.Close()
	c := e.config(auth, front.URL)
	c.CAFile = ca.File
	_, err = open(t, c, nil).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "certificate")
	c.ClientCertFile, c.ClientKeyFile = cert, secretFile(t, keyservicetest.ReadFile(t, key))
	keyservicetest.RoundTrip(t, open(t, c, nil))
}

// TestEnvironmentHasNoSay runs with settings that would each break the key. It is not parallel because of t.Setenv.
func TestEnvironmentHasNoSay(t *testing.T) {
	e, auth := fixture(t)
	for _, name := range []string{"VAULT", "BAO"} {
		t.Setenv(name+"_ADDR", "http://127.0.0.1:1")
		t.Setenv(name+"_TOKEN", "wrong")
		t.Setenv(name+"_NAMESPACE", "wrong")
		t.Setenv(name+"_CACERT", "/nonexistent")
		t.Setenv(name+"_WRAP_TTL", "5m")
		t.Setenv(name+"_PROXY_ADDR", "http://127.0.0.1:1")
		t.Setenv(name+"_HTTP_PROXY", "http://127.0.0.1:1")
		t.Setenv(name+"_MFA", "wrong")
	}
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	keyservicetest.RoundTrip(t, open(t, e.config(auth), nil))
}

func TestNamespaceAndToken(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	headers := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/transit/keys/") {
			headers <- r.Header
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	c := e.config(auth, server.URL)
	c.Namespace = "admin/team"
	_, _, err := open(t, c, nil).Versions(t.Context())
	keyservicetest.WantKind(t, err, keyservice.NotFound, "404")
	h := <-headers
	if h.Get("X-Vault-Namespace") != c.Namespace || h.Get("X-Vault-Token") != strings.TrimSpace(keyservicetest.ReadFile(t, auth.TokenFile)) {
		t.Errorf("namespace %q, token as in the file: %t", h.Get("X-Vault-Namespace"), h.Get("X-Vault-Token") != "")
	}
}

// Package azurekvtest is an Azure to test against: a vault, the directory that gives tokens for it and a machine's endpoint for
// its identity, over HTTP as the services speak it, with real keys and signatures. It checks what the services check of a
// request: the challenge's token with its audience, directory and time, the role's data actions, the parameters. It is
// imported by tests alone.
package azurekvtest

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

// Fake is one vault and what belongs to it.
type Fake struct {
	URL      string // https://127.0.0.1:PORT: of the vault and of Entra ID. It answers to every other name as well
	CAFile   string // of the authority behind its certificates
	TenantID string
	ClientID string // of an application, and of a user-assigned managed identity

	// A machine's endpoint for its identity, to be set as IDENTITY_ENDPOINT and IDENTITY_HEADER.
	IdentityEndpoint, IdentityHeader string

	Vault, Entra, Identity testserver.Faults

	ca        *testserver.CA
	tokenKey  []byte // signs access tokens
	directory directory

	mu       sync.Mutex
	keys     map[string]*key
	deleted  map[string]*key
	refusal  *Refusal      // of the vault
	rebuff   *Refusal      // of Entra ID
	allowed  []string      // data actions, without the service's prefix
	lifetime time.Duration // of tokens
	resource string        // what tokens are for
	ahead    time.Duration // of the vault's clock
	logins   int
	requests int // to the vault
}

// Start starts an empty vault, for as long as the test lasts. Its role allows what the least policy does.
func Start(t testing.TB) *Fake {
	t.Helper()
	f := &Fake{
		TenantID: guid(), ClientID: guid(), resource: "https://vault.azure.net", IdentityHeader: rand.Text(),
		ca: testserver.NewCA(t), tokenKey: []byte(rand.Text()), keys: map[string]*key{}, deleted: map[string]*key{},
		allowed: []string{"read", "wrap", "unwrap"}, lifetime: time.Hour,
	}
	f.CAFile = f.ca.File
	mux := http.NewServeMux()
	mux.Handle("/", f.Vault.Handler(f.vault()))
	mux.Handle("/{tenant}/v2.0/", f.Entra.Handler(http.HandlerFunc(f.discover)))
	mux.Handle("/{tenant}/oauth2/v2.0/token", f.Entra.Handler(http.HandlerFunc(f.token)))
	server := httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{f.certificate(t, "vault")}, // for who names an address
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			certificate := f.certificate(t, hello.ServerName)
			return &certificate, nil
		},
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that trust nobody
	server.StartTLS()
	machine := httptest.NewServer(f.Identity.Handler(http.HandlerFunc(f.identity)))
	t.Cleanup(func() {
		for _, stop := range []func(){server.CloseClientConnections, server.Close, machine.CloseClientConnections, machine.Close} {
			stop()
		}
	})
	f.URL, f.IdentityEndpoint = server.URL, machine.URL
	return f
}

func (f *Fake) certificate(t testing.TB, name string) tls.Certificate {
	pair, err := tls.LoadX509KeyPair(f.ca.Issue(t, name))
	if err != nil {
		t.Error(err)
	}
	return pair
}

// Allow gives the identity the role that a definition describes, as JSON, instead of the one it had.
func (f *Fake) Allow(t testing.TB, definition string) {
	t.Helper()
	var role struct{ DataActions []string }
	if err := json.Unmarshal([]byte(definition), &role); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.allowed = nil
	for _, action := range role.DataActions {
		_, action, _ = strings.Cut(action, "/keys/")
		f.allowed = append(f.allowed, strings.TrimSuffix(action, "/action"))
	}
}

// SetResource decides what tokens must be for, and what the challenge names. https://vault.azure.net, at first.
func (f *Fake) SetResource(resource string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resource = resource
}

// SetClock puts the vault's clock ahead.
func (f *Fake) SetClock(ahead time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ahead = ahead
}

// Requests returns how many requests the vault had.
func (f *Fake) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// Refusal is an answer that the vault gives instead of its own.
type Refusal struct {
	Status               int
	Code, Inner, Message string
	RetryAfter           string // seconds
	Body                 string // instead of the JSON of the others
	Path                 string // only for requests whose path ends so
}

// Refuse makes the vault answer authorised requests so from now on, and returns what ends it.
func (f *Fake) Refuse(r Refusal) (end func()) { return f.set(&f.refusal, &r) }

// RefuseLogin makes Entra ID answer every request for a token so from now on, and returns what ends it.
func (f *Fake) RefuseLogin(r Refusal) (end func()) { return f.set(&f.rebuff, &r) }

func (f *Fake) set(at **Refusal, r *Refusal) (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*at = r
	return func() { f.set(at, nil) }
}

// vault is the service itself. f.mu is held while it answers.
func (f *Fake) vault() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern, action string, answer func(r *http.Request) (any, *Refusal)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.requests++
			w.Header().Set("Date", time.Now().Add(f.ahead).UTC().Format(http.TimeFormat))
			var body any
			refused := f.check(w, r, action)
			if refused == nil {
				body, refused = answer(r)
			}
			respond(w, body, refused)
		})
	}
	handle("GET /keys/{name}/versions", "read", f.listVersions)
	handle("GET /keys/{name}/{version}", "read", f.getKey)
	handle("GET /keys/{name}/rotationpolicy", "rotationpolicy", f.getRotationPolicy)
	handle("GET /deletedkeys/{name}", "read", f.getDeletedKey)
	handle("POST /keys/{name}/{version}/wrapkey", "wrap", f.wrapKey)
	handle("POST /keys/{name}/{version}/unwrapkey", "unwrap", f.unwrapKey)
	return mux
}

// check returns why a request is refused before it is looked at, or nil.
func (f *Fake) check(w http.ResponseWriter, r *http.Request, action string) *Refusal {
	if problem := f.checkToken(r.Header.Get("Authorization")); problem != "" {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(
			`Bearer authorization="https://%s/%s", resource="%s"`, r.Host, f.TenantID, f.resource))
		return &Refusal{Status: 401, Code: "Unauthorized", Message: problem}
	}
	switch {
	case f.refusal != nil && strings.HasSuffix(r.URL.Path, f.refusal.Path):
		return f.refusal
	case r.URL.Query().Get("api-version") == "":
		return &Refusal{Status: 400, Code: "BadParameter", Message: "api-version must be specified"}
	case !slices.Contains(f.allowed, action):
		return &Refusal{Status: 403, Code: "Forbidden", Inner: "ForbiddenByRbac",
			Message: "Caller is not authorized to perform action on resource.\r\nAction: " + action}
	}
	return nil
}

func respond(w http.ResponseWriter, body any, refused *Refusal) {
	w.Header().Set("Content-Type", "application/json")
	if refused == nil {
		_ = json.NewEncoder(w).Encode(body)
		return
	}
	if refused.RetryAfter != "" {
		w.Header().Set("Retry-After", refused.RetryAfter)
	}
	w.WriteHeader(refused.Status)
	if refused.Body != "" {
		_, _ = io.WriteString(w, refused.Body)
		return
	}
	said := map[string]any{"code": refused.Code, "message": refused.Message}
	if refused.Inner != "" {
		said["innererror"] = map[string]string{"code": refused.Inner}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"error": said})
}

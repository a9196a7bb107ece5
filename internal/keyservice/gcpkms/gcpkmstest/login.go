package gcpkmstest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// Account is the service account that has the permissions.
	Account = "trousseau@trousseau-test.iam.gserviceaccount.com"
	// TokenMark is in every access token, and nowhere else.
	TokenMark = "ya29.fake-"

	keyID        = "0123456789abcdef"
	audience     = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/nodes/providers/spire"
	scope        = "https://www.googleapis.com/auth/cloudkms"
	wideScope    = "https://www.googleapis.com/auth/cloud-platform"
	subjectToken = "subject-token-of-the-other-issuer"
)

// signer is the private key of the service account. All fakes share it: it takes long to make.
var signer = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// PrivateKey returns the service account's private key as its file has it.
func (f *Fake) PrivateKey() string {
	der := x509.MarshalPKCS1PrivateKey(f.signer)
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der}))
}

func (f *Fake) serviceAccount() map[string]any {
	return map[string]any{
		"type": "service_account", "project_id": "trousseau-test", "client_email": Account,
		"private_key_id": keyID, "private_key": f.PrivateKey(), "token_uri": f.web.URL + "/token",
	}
}

// ServiceAccountFile writes the key of the account.
func (f *Fake) ServiceAccountFile(t testing.TB) string {
	t.Helper()
	return f.write(t, "service-account.json", f.serviceAccount())
}

// ExternalAccountFile writes a workload identity federation configuration. With impersonate it leads to the account.
func (f *Fake) ExternalAccountFile(t testing.TB, impersonate bool) string {
	t.Helper()
	token := filepath.Join(f.dir, "subject-token")
	if err := os.WriteFile(token, []byte(subjectToken), 0o600); err != nil {
		t.Fatal(err)
	}
	content := map[string]any{
		"type": "external_account", "audience": audience, "token_url": f.web.URL + "/sts",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "credential_source": map[string]any{"file": token},
	}
	if impersonate {
		content["service_account_impersonation_url"] = f.impersonationURL()
	}
	return f.write(t, "external-account.json", content)
}

// ImpersonationFile writes a credential that impersonates the account with the key of the same.
func (f *Fake) ImpersonationFile(t testing.TB) string {
	t.Helper()
	return f.write(t, "impersonation.json", map[string]any{
		"type": "impersonated_service_account", "source_credentials": f.serviceAccount(),
		"service_account_impersonation_url": f.impersonationURL(),
	})
}

func (f *Fake) impersonationURL() string {
	return f.web.URL + "/v1/projects/-/serviceAccounts/" + Account + ":generateAccessToken"
}

func (f *Fake) write(t testing.TB, name string, content map[string]any) string {
	t.Helper()
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// MetadataHost returns what GCE_METADATA_HOST must be for a process to take the fake for a virtual machine's server.
func (f *Fake) MetadataHost() string { return strings.TrimPrefix(f.web.URL, "http://") }

// RefuseLogins makes token servers refuse everybody, until the returned func is called.
func (f *Fake) RefuseLogins() (repair func()) {
	set := func(refuse bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.refuse = refuse
	}
	set(true)
	return func() { set(false) }
}

// RevokeTokens ends all tokens that were issued.
func (f *Fake) RevokeTokens() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
}

// SetTokenLifetime changes how long tokens to come live.
func (f *Fake) SetTokenLifetime(lifetime time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lifetime = lifetime
}

// tokenServers are oauth2, sts and iamcredentials.googleapis.com, and the metadata server.
func (f *Fake) tokenServers() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" ||
			f.refusing() || !f.signed(r.PostFormValue("assertion")) {
			refuse(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
			return
		}
		answer(w, f.oauthToken())
	})
	mux.HandleFunc("POST /sts", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" ||
			r.PostFormValue("audience") != audience || r.PostFormValue("subject_token") != subjectToken || f.refusing() {
			refuse(w, http.StatusBadRequest, map[string]any{
				"error": "invalid_grant", "error_description": "The subject token is not accepted by the pool's provider.",
			})
			return
		}
		answer(w, f.oauthToken())
	})
	mux.HandleFunc("POST /v1/projects/-/serviceAccounts/", func(w http.ResponseWriter, r *http.Request) {
		var request struct{ Scope []string }
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		err := json.NewDecoder(r.Body).Decode(&request)
		if err != nil || len(request.Scope) == 0 || !f.issued(token) ||
			!strings.HasSuffix(r.URL.Path, "/"+Account+":generateAccessToken") {
			refuse(w, http.StatusForbidden, map[string]any{"error": map[string]any{
				"code": 403, "status": "PERMISSION_DENIED",
				"message": "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
			}})
			return
		}
		value, ends := f.issue()
		answer(w, map[string]any{"accessToken": value, "expireTime": ends.UTC().Format(time.RFC3339)})
	})
	mux.HandleFunc("GET /computeMetadata/v1/instance/service-accounts/default/token", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata-Flavor") != "Google" || f.refusing() {
			http.NotFound(w, r)
			return
		}
		answer(w, f.oauthToken())
	})
	return mux
}

// signed checks a service account's assertion: its signature, what it is for and when.
func (f *Fake) signed(assertion string) bool {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return false
	}
	var decoded [3][]byte
	for i, part := range parts {
		decoded[i], _ = base64.RawURLEncoding.DecodeString(part)
	}
	var header struct{ Alg, Kid string }
	var claims struct {
		Iss, Aud, Scope string
		Iat, Exp        int64
	}
	if json.Unmarshal(decoded[0], &header) != nil || json.Unmarshal(decoded[1], &claims) != nil {
		return false
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	now := time.Now().Unix()
	return header.Alg == "RS256" && header.Kid == keyID &&
		rsa.VerifyPKCS1v15(&f.signer.PublicKey, crypto.SHA256, digest[:], decoded[2]) == nil &&
		claims.Iss == Account && claims.Aud == f.web.URL+"/token" && (claims.Scope == scope || claims.Scope == wideScope) &&
		claims.Iat <= now+60 && now < claims.Exp && claims.Exp-claims.Iat <= 3660
}

func (f *Fake) refusing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refuse
}

func (f *Fake) issued(token string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Before(f.tokens[token])
}

func (f *Fake) issue() (value string, ends time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	value, ends = TokenMark+rand.Text(), time.Now().Add(f.lifetime)
	f.tokens[value] = ends
	return value, ends
}

func (f *Fake) oauthToken() map[string]any {
	value, ends := f.issue()
	return map[string]any{
		"access_token": value, "token_type": "Bearer", "expires_in": int(time.Until(ends).Round(time.Second).Seconds()),
	}
}

func answer(w http.ResponseWriter, content map[string]any) { refuse(w, http.StatusOK, content) }

func refuse(w http.ResponseWriter, status int, content map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(content) // the client may be gone
}

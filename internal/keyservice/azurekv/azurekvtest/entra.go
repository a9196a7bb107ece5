package azurekvtest

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// directory is what Entra ID knows of the application. Fake.mu guards it.
type directory struct {
	secret      string
	certificate *rsa.PublicKey
	issuer      *rsa.PrivateKey // of federated tokens
}

// The names in a federated token, which the application's federated credential demands.
const (
	issuerName  = "https://issuer.example.com"
	subjectName = "system:serviceaccount:kms:trousseau"
	audience    = "api://AzureADTokenExchange"
)

// claims are those of all JSON web tokens here.
type claims struct {
	Issuer   string `json:"iss,omitempty"`
	Subject  string `json:"sub,omitempty"`
	Audience string `json:"aud"`
	Tenant   string `json:"tid,omitempty"`
	Expires  int64  `json:"exp"` // Unix seconds
}

// SetClientSecret gives the application a secret instead of the one it had.
func (f *Fake) SetClientSecret(secret string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.directory.secret = secret
}

// NewClientCertificate gives the application a certificate instead of the one it had, and returns it and its key as
// files.
func (f *Fake) NewClientCertificate(t testing.TB, notAfter time.Time) (certFile, keyFile string) {
	t.Helper()
	private := newRSA(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "trousseau"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.directory.certificate = &private.PublicKey
	dir := t.TempDir()
	return writePEM(t, filepath.Join(dir, "cert.pem"), "CERTIFICATE", cert), writePEM(t, filepath.Join(dir, "key.pem"), "PRIVATE KEY", der)
}

// FederatedToken returns a token of the issuer that the application trusts.
func (f *Fake) FederatedToken(t testing.TB, expires time.Time) string {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.directory.issuer == nil {
		f.directory.issuer = newRSA(t)
	}
	signed := unsigned("RS256", claims{Issuer: issuerName, Subject: subjectName, Audience: audience, Expires: expires.Unix()})
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, f.directory.issuer, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(signature)
}

// SetTokenLifetime decides how long access tokens last from now on. An hour, at first.
func (f *Fake) SetTokenLifetime(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lifetime = d
}

// Logins returns how many access tokens were given.
func (f *Fake) Logins() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logins
}

func (f *Fake) discover(w http.ResponseWriter, r *http.Request) {
	at := "https://" + r.Host + "/" + r.PathValue("tenant")
	respond(w, map[string]string{
		"issuer": at + "/v2.0", "token_endpoint": at + "/oauth2/v2.0/token", "authorization_endpoint": at + "/oauth2/v2.0/authorize",
	}, nil)
}

// token is the directory's token endpoint.
func (f *Fake) token(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	refuse := func(status int, code, text string) {
		body, _ := json.Marshal(map[string]string{"error": code, "error_description": text + " Trace ID: 00000000."})
		respond(w, nil, &Refusal{Status: status, Body: string(body)})
	}
	switch scope := r.PostFormValue("scope"); {
	case f.rebuff != nil:
		respond(w, nil, f.rebuff)
	case !strings.EqualFold(r.PathValue("tenant"), f.TenantID):
		refuse(400, "invalid_request", "AADSTS90002: Tenant not found.")
	case !strings.EqualFold(r.PostFormValue("client_id"), f.ClientID):
		refuse(400, "unauthorized_client", "AADSTS700016: Application was not found in the directory.")
	case r.PostFormValue("grant_type") != "client_credentials" || !strings.Contains(scope, f.resource+"/.default"):
		refuse(400, "invalid_scope", "AADSTS70011: The provided value for the input parameter 'scope' is not valid: "+scope)
	case r.PostFormValue("client_assertion") != "":
		if problem := f.checkAssertion(r.PostFormValue("client_assertion"), "https://"+r.Host+r.URL.Path); problem != "" {
			refuse(401, "invalid_client", problem)
			return
		}
		f.grant(w, f.resource)
	case f.directory.secret == "" || r.PostFormValue("client_secret") != f.directory.secret:
		refuse(401, "invalid_client", "AADSTS7000215: Invalid client secret provided: "+r.PostFormValue("client_secret"))
	default:
		f.grant(w, f.resource)
	}
}

// checkAssertion returns what is wrong with what stands for a secret: signed by the application's certificate for the
// endpoint, or by the issuer that it trusts.
func (f *Fake) checkAssertion(assertion, endpoint string) string {
	var head struct{ Alg string }
	var got claims
	signed, signature, ok := parse(assertion, &head, &got)
	sum := sha256.Sum256([]byte(signed))
	switch {
	case !ok:
		return "AADSTS50027: JWT token is invalid or malformed."
	case got.Expires < time.Now().Unix():
		return "AADSTS700024: Client assertion is not within its valid time range."
	case head.Alg == "PS256":
		if f.directory.certificate == nil || rsa.VerifyPSS(f.directory.certificate, crypto.SHA256, sum[:], signature, nil) != nil {
			return "AADSTS700027: The certificate with identifier used to sign the client assertion is not registered."
		}
		if got.Issuer != f.ClientID || got.Subject != f.ClientID || got.Audience != endpoint {
			return "AADSTS700021: Client assertion application identifier or audience doesn't match."
		}
	case f.directory.issuer == nil || rsa.VerifyPKCS1v15(&f.directory.issuer.PublicKey, crypto.SHA256, sum[:], signature) != nil,
		got.Issuer != issuerName, got.Subject != subjectName, got.Audience != audience:
		return "AADSTS700213: No matching federated identity record found for presented assertion."
	}
	return ""
}

// identity is a machine's endpoint, in the form of App Service.
func (f *Fake) identity(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	query := r.URL.Query()
	switch id := query.Get("client_id"); {
	case r.Header.Get("X-Identity-Header") != f.IdentityHeader:
		http.Error(w, "", http.StatusUnauthorized)
	case query.Get("api-version") != "2019-08-01" || query.Get("resource") == "":
		http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
	case id != "" && id != f.ClientID:
		http.Error(w, `{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found for specified ClientId"}`,
			http.StatusBadRequest)
	default:
		f.grant(w, query.Get("resource"))
	}
}

// grant answers with an access token.
func (f *Fake) grant(w http.ResponseWriter, resource string) {
	f.logins++
	expires := time.Now().Add(f.lifetime).Unix()
	signed := unsigned("HS256", claims{Audience: resource, Tenant: f.TenantID, Expires: expires})
	respond(w, map[string]any{
		"token_type": "Bearer", "access_token": signed + "." + encode(f.sign(signed)), "resource": resource,
		"expires_in": int(f.lifetime.Seconds()), "expires_on": strconv.FormatInt(expires, 10),
	}, nil)
}

// checkToken returns what the vault finds wrong with a request's token.
func (f *Fake) checkToken(header string) string {
	token, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		return "AKV10000: Request is missing a Bearer or PoP token."
	}
	var got claims
	signed, signature, ok := parse(token, new(struct{}), &got)
	switch {
	case !ok || !hmac.Equal(signature, f.sign(signed)):
		return "AKV10001: The token is malformed or its signature is wrong."
	case got.Audience != f.resource:
		return fmt.Sprintf("AKV10022: Invalid audience. Expected %s, found: %s.", f.resource, got.Audience)
	case got.Tenant != f.TenantID:
		return fmt.Sprintf("AKV10032: Invalid issuer. Expected one of %s, found %s.", f.TenantID, got.Tenant)
	case got.Expires < time.Now().Unix():
		return "AKV10046: The token has expired."
	}
	return ""
}

func (f *Fake) sign(signed string) []byte {
	mac := hmac.New(sha256.New, f.tokenKey)
	mac.Write([]byte(signed))
	return mac.Sum(nil)
}

// unsigned returns the first two parts of a JSON web token.
func unsigned(algorithm string, c claims) string {
	body, _ := json.Marshal(c) // never fails
	return encode([]byte(`{"typ":"JWT","alg":"`+algorithm+`"}`)) + "." + encode(body)
}

// parse takes a JSON web token apart.
func parse(token string, head, body any) (signed string, signature []byte, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", nil, false
	}
	for i, into := range []any{head, body} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(text, into) != nil {
			return "", nil, false
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	return parts[0] + "." + parts[1], signature, err == nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func newRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func writePEM(t testing.TB, path, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// guid returns a random identifier as Azure writes them.
func guid() string {
	b := random(16)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

package azurekv_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv/azurekvtest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// TestEveryRefusalHasItsKind has the vault say what is documented for it, to an unwrapping and to a listing of versions. Where
// only one kind is given, both have it.
func TestEveryRefusalHasItsKind(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, rsa)
	key := open(t, config)
	wrapped := keyservicetest.Wrap(t, key, "")
	for _, test := range []struct {
		said  azurekvtest.Refusal
		kinds []keyservice.Kind
	}{
		{azurekvtest.Refusal{Status: 400, Code: "BadParameter", Message: "The parameter is incorrect."}, []keyservice.Kind{keyservice.Corrupt, keyservice.Invalid}},
		{azurekvtest.Refusal{Status: 400, Code: "BadParameter", Message: "Key and encryption algorithm are incompatible."}, []keyservice.Kind{keyservice.Invalid}},
		{azurekvtest.Refusal{Status: 401, Code: "Unauthorized", Message: "AKV10022: Invalid audience."}, []keyservice.Kind{keyservice.Denied}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Inner: "ForbiddenByRbac", Message: "Caller is not authorized to perform action on resource."}, []keyservice.Kind{keyservice.Denied}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Inner: "ForbiddenByPolicy"}, []keyservice.Kind{keyservice.Denied}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Inner: "AccessDenied", Message: "The user, group or application does not have keys unwrapKey permission"}, []keyservice.Kind{keyservice.Denied}},
		{azurekvtest.Refusal{Status: 403, Code: "AccessDenied"}, []keyservice.Kind{keyservice.Denied}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Inner: "ForbiddenByFirewall", Message: "Client address is not authorized and caller is not a trusted service."}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Inner: "ForbiddenByConnection", Message: "Public network access is disabled"}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Message: "Client address is not authorized"}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Message: "Public network access is disabled and request is not from a trusted service"}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Inner: "KeyDisabled", Message: "Operation unwrapKey is not allowed on a disabled key."}, []keyservice.Kind{keyservice.Disabled}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Message: "Operation unwrapKey is not permitted on disabled key."}, []keyservice.Kind{keyservice.Disabled}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Inner: "KeyExpired"}, []keyservice.Kind{keyservice.Disabled}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Inner: "KeyNotYetValid"}, []keyservice.Kind{keyservice.Disabled}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Message: "The key is expired."}, []keyservice.Kind{keyservice.Disabled}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Message: "The key is not yet valid."}, []keyservice.Kind{keyservice.Disabled}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Inner: "KeyOperationForbidden"}, []keyservice.Kind{keyservice.Disabled}},
		{azurekvtest.Refusal{Status: 403, Code: "Forbidden", Message: "Operation unwrapKey is not permitted on this key."}, []keyservice.Kind{keyservice.Disabled}},
		{azurekvtest.Refusal{Status: 404, Code: "KeyNotFound", Message: "A key with (name/id) k8s was not found in this key vault."}, []keyservice.Kind{keyservice.NotFound}},
		{azurekvtest.Refusal{Status: 404, Code: "VaultNotFound"}, []keyservice.Kind{keyservice.NotFound}},
		{azurekvtest.Refusal{Status: 409, Code: "Conflict", Inner: "ObjectIsDeletedButRecoverable", Message: "Key k8s is currently in a deleted but recoverable state"}, []keyservice.Kind{keyservice.Disabled}},
		{azurekvtest.Refusal{Status: 409, Code: "Conflict", Inner: "ObjectIsBeingDeleted"}, []keyservice.Kind{keyservice.Disabled}},
		{azurekvtest.Refusal{Status: 408, Code: "RequestTimeout"}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 429, Code: "Throttled", RetryAfter: "600"}, []keyservice.Kind{keyservice.Throttled}},
		{azurekvtest.Refusal{Status: 429, Body: "slow down"}, []keyservice.Kind{keyservice.Throttled}},
		{azurekvtest.Refusal{Status: 500, Code: "InternalServerError"}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 502, Body: "<html>bad gateway</html>"}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 503, Code: "ServiceUnavailable", RetryAfter: "600"}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 504, Code: "GatewayTimeout"}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 302, Body: "elsewhere"}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 403, Body: "<html>the proxy forbids this</html>"}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 404, Body: `{"message": "no route"}`}, []keyservice.Kind{keyservice.Unavailable}},
		{azurekvtest.Refusal{Status: 405, Code: "MethodNotAllowed"}, []keyservice.Kind{keyservice.Invalid}},
		{azurekvtest.Refusal{Status: 200, Body: "<html>welcome</html>"}, []keyservice.Kind{keyservice.Corrupt}},
		{azurekvtest.Refusal{Status: 200, Body: `{"kid": "x", "value": "!"}`}, []keyservice.Kind{keyservice.Corrupt}},
		{azurekvtest.Refusal{Status: 200, Body: "{}"}, []keyservice.Kind{keyservice.Corrupt, keyservice.NotFound}},
		{azurekvtest.Refusal{Status: 200, Body: strings.Repeat(" ", 2<<20)}, []keyservice.Kind{keyservice.Unavailable}},
	} {
		end := fake.Refuse(test.said)
		text := ""
		if test.said.Status != 200 {
			text = fmt.Sprintf("the service says %d", test.said.Status)
		}
		_, err := key.Unwrap(t.Context(), wrapped, nil)
		wantKind(t, err, test.kinds[0], text)
		_, _, err = key.Versions(t.Context())
		wantKind(t, err, test.kinds[len(test.kinds)-1], text)
		end()
	}
	keyservicetest.RoundTrip(t, key)
}

// TestNothingIsRetried counts the requests for one call.
func TestNothingIsRetried(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, aes)
	key := open(t, config)
	keyservicetest.RoundTrip(t, key)
	for _, status := range []int{429, 500, 503} {
		end := fake.Refuse(azurekvtest.Refusal{Status: status, Code: "Busy", RetryAfter: "1"})
		before := fake.Requests()
		key.Versions(t.Context())
		if n := fake.Requests() - before; n != 1 {
			t.Errorf("%d: %d requests", status, n)
		}
		end()
	}
}

// TestEveryRefusedLoginHasItsKind has Entra ID say what is documented for it.
func TestEveryRefusedLoginHasItsKind(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, aes)
	for _, test := range []struct {
		status     int
		code, text string
		kind       keyservice.Kind
	}{
		{401, "invalid_client", "AADSTS7000215: Invalid client secret provided.", keyservice.Denied},
		{401, "invalid_client", "AADSTS7000222: The provided client secret keys are expired.", keyservice.Denied},
		{401, "invalid_client", "AADSTS700027: The certificate is not registered.", keyservice.Denied},
		{401, "invalid_client", "AADSTS700213: No matching federated identity record found.", keyservice.Denied},
		{401, "invalid_client", "AADSTS700024: Client assertion is not within its valid time range.", keyservice.Denied},
		{400, "unauthorized_client", "AADSTS700016: Application was not found.", keyservice.Denied},
		{400, "invalid_request", "AADSTS90002: Tenant not found.", keyservice.Denied},
		{403, "access_denied", "AADSTS53003: Access has been blocked by Conditional Access policies.", keyservice.Denied},
		{400, "temporarily_unavailable", "AADSTS90033: A transient error has occurred.", keyservice.Unavailable},
		{429, "too_many_requests", "AADSTS90055", keyservice.Throttled},
		{500, "server_error", "", keyservice.Unavailable},
		{503, "", "", keyservice.Unavailable},
		{400, "invalid_request", "Identity not found", keyservice.Denied}, // a virtual machine's endpoint
		{410, "", "", keyservice.Unavailable},
		{302, "", "", keyservice.Unavailable},
	} {
		end := fake.RefuseLogin(azurekvtest.Refusal{
			Status: test.status, RetryAfter: "600", Body: fmt.Sprintf(`{"error": %q, "error_description": %q}`, test.code, test.text),
		})
		_, _, err := open(t, config).Versions(t.Context())
		wantKind(t, err, test.kind, test.text)
		end()
	}
	keyservicetest.RoundTrip(t, open(t, config))
}

func TestRefusalsShowNothingThatWasSent(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, rsa)
	key := open(t, config)
	wrapped := keyservicetest.Wrap(t, key, "")
	sent := base64.RawURLEncoding.EncodeToString(wrapped.Bytes)
	fake.Refuse(azurekvtest.Refusal{Status: 400, Code: "BadParameter", Message: "Property 'value' is wrong: " + sent})
	_, err := key.Unwrap(t.Context(), wrapped, nil)
	wantKind(t, err, keyservice.Corrupt, "is wrong: redacted")

	fake.SetClientSecret("another one") // Entra ID is made to repeat the secret
	_, _, err = open(t, config).Versions(t.Context())
	wantKind(t, err, keyservice.Denied, "Invalid client secret provided: redacted")
}

func TestNetworkIsNeverDenied(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, aes)
	for name, change := range map[string]func(){
		"nobody listens":       func() { config.VaultURL = "https://" + testserver.FreeAddress(t) },
		"no such name":         func() { config.VaultURL = "https://myvault.invalid" },
		"no login":             func() { config.AuthorityHost = "https://" + testserver.FreeAddress(t) },
		"no login's name":      func() { config.AuthorityHost = "https://login.invalid" },
		"unknown authority":    func() { config.CAFile = testserver.NewCA(t).File },
		"login is cut":         func() { fake.Entra.Set(testserver.Cut) },
		"login is damaged":     func() { fake.Entra.Set(testserver.Garble) },
		"proxy says no":        func() { config.VaultURL = "https://not-allowed.example.com" },
		"something else there": func() { config.VaultURL = strings.Replace(fake.IdentityEndpoint, "http:", "https:", 1) },
	} {
		good := config
		change()
		_, _, err := open(t, config).Versions(t.Context())
		t.Log(name, err)
		wantKind(t, err, keyservice.Unavailable, "")
		config = good
		fake.Entra.Set(testserver.Pass)
	}
	keyservicetest.RoundTrip(t, open(t, config))
}

// TestForeignChallenges has something else than a vault ask for a log in.
func TestForeignChallenges(t *testing.T) {
	t.Parallel()
	_, config := fixture(t, aes)
	for _, challenge := range []string{
		"", `Basic realm="proxy"`, `Bearer realm="other"`, "Bearer",
		`Bearer authorization="nonsense", resource="https://vault.azure.net"`,
		`Bearer error="insufficient_claims", claims="!"`,
	} {
		other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
		}))
		config.VaultURL, config.CAFile = other.URL, pemFile(t, other.Certificate())
		_, _, err := open(t, config).Versions(t.Context())
		wantKind(t, err, keyservice.Unavailable, "what answers is no vault")
		other.Close()
	}
}

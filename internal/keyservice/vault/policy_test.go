package vault_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/openbao/openbao/api/v2"

	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
)

// TestLeastPolicy: every other test shows that the policy suffices; this one, that it allows nothing else, and that no
// line of it is left over.
func TestLeastPolicy(t *testing.T) {
	t.Parallel()
	e, _ := fixture(t)
	e.CreateKey(e.mount, "other", nil)
	client := e.Client()
	client.SetToken(e.token(t, nil))
	status := func(method, path string, body map[string]any) int {
		r := client.NewRequest(method, "/v1/"+path)
		if err := r.SetJSONBody(body); err != nil {
			t.Fatal(err)
		}
		answer, err := client.RawRequestWithContext(t.Context(), r)
		if e, ok := err.(*api.ResponseError); ok {
			return e.StatusCode
		}
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	plaintext := map[string]any{"plaintext": "aGVsbG8="}
	for _, call := range []struct {
		method, path string
		body         map[string]any
		want         int
	}{
		{"POST", "transit/encrypt/k8s", plaintext, 200},
		{"GET", "transit/keys/k8s", nil, 200},
		{"GET", "auth/token/lookup-self", nil, 200},
		{"POST", "auth/token/renew-self", map[string]any{}, 200},
		{"POST", "sys/capabilities-self", map[string]any{"paths": []string{"x"}}, 200},
		{"POST", "transit/encrypt/other", plaintext, 403},
		{"POST", "transit/encrypt/new", plaintext, 403},
		{"GET", "transit/keys/other", nil, 403},
		{"GET", "transit/keys?list=true", nil, 403},
		{"POST", "transit/keys/k8s", map[string]any{}, 403},
		{"POST", "transit/keys/k8s/config", map[string]any{"deletion_allowed": true}, 403},
		{"POST", "transit/keys/k8s/rotate", map[string]any{}, 403},
		{"DELETE", "transit/keys/k8s", nil, 403},
		{"GET", "transit/export/encryption-key/k8s", nil, 403},
		{"GET", "transit/backup/k8s", nil, 403},
		{"POST", "transit/datakey/plaintext/k8s", map[string]any{}, 403},
		{"POST", "transit/rewrap/k8s", map[string]any{}, 403},
		{"POST", "auth/token/create", map[string]any{}, 403},
		{"POST", "sys/policies/acl/x", map[string]any{"policy": ""}, 403},
		{"GET", "sys/mounts", nil, 403},
		{"POST", "auth/token/revoke-self", map[string]any{}, http.StatusNoContent}, // last: it ends the token
	} {
		if got := status(call.method, call.path, call.body); got != call.want {
			t.Errorf("%s %s: %d, want %d", call.method, call.path, got, call.want)
		}
	}
}

func TestManualHasThePolicy(t *testing.T) {
	manual := keyservicetest.ReadFile(t, "../../../docs/keyservices/vault.md")
	if policy := (vault.Config{Mount: "transit", Key: "k8s"}).LeastPolicy(); !strings.Contains(manual, policy) {
		t.Errorf("the manual does not have this policy:\n%s", policy)
	}
}

func TestID(t *testing.T) {
	c := vault.Config{
		Addresses: []string{"https://a:8200"}, Namespace: "team", Mount: "kms/transit", Key: "k8s",
	}
	if c.ID() != "vault:kms/transit/k8s" {
		t.Errorf("id %q", c.ID())
	}
}

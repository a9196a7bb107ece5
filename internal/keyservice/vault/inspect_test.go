package vault_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// inspect returns the rules that were found, sorted.
func inspect(t *testing.T, c vault.Config) []string {
	t.Helper()
	return keyservicetest.Rules(keyservicetest.Inspect(t, open(t, c, nil)))
}

func TestInspect(t *testing.T) {
	t.Parallel()
	e, _ := fixture(t)
	periodic := vault.Auth{TokenFile: secretFile(t, e.token(t, map[string]any{"period": "24h"}))}
	root := vault.Auth{TokenFile: secretFile(t, e.RootToken)}
	ending := vault.Auth{TokenFile: secretFile(t, e.token(t, map[string]any{"explicit_max_ttl": "2h"}))}
	counted := vault.Auth{TokenFile: secretFile(t, e.token(t, map[string]any{"period": "24h", "num_uses": 50}))}

	check := func(name string, c vault.Config, want ...string) {
		t.Helper()
		if got := inspect(t, c); !slices.Equal(got, want) {
			t.Errorf("%s: found %q, want %q", name, got, want)
		}
	}
	check("a good key", e.config(periodic), "vault-ok")
	check("root token", e.config(root), "vault-policy-wide", "vault-token-root")
	check("token that ends", e.config(ending), "vault-token-ends")
	check("token with few uses", e.config(counted), "vault-token-uses")
	dead := "http://" + testserver.FreeAddress(t)
	check("dead second address", e.config(periodic, e.Address, dead), "vault-address-away")
	sealed := testserver.StartVault(t)
	sealed.Seal()
	check("sealed second address", e.config(periodic, e.Address, sealed.Address), "vault-address-sealed")

	for range 2 {
		e.rotate(t)
	}
	e.Write(e.keyPath()+"/config", map[string]any{
		"exportable": true, "allow_plaintext_backup": true, "deletion_allowed": true,
		"min_decryption_version": 2, "auto_rotate_period": "24h",
	})
	check("dangerous settings", e.config(periodic), "vault-key-auto-rotate", "vault-key-deletable", "vault-key-exportable",
		"vault-key-min-decryption", "vault-key-plaintext-backup")

	c := e.config(root)
	c.Key = "derived"
	e.CreateKey(e.mount, c.Key, map[string]any{"derived": true, "convergent_encryption": true})
	check("derived key", c, "vault-key-convergent", "vault-key-unusable", "vault-policy-wide", "vault-token-root")
}

// TestInspectClock puts a server whose clock is wrong before the real one.
func TestInspectClock(t *testing.T) {
	t.Parallel()
	e, _ := fixture(t)
	to, err := url.Parse(e.Address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(r *http.Response) error {
		r.Header.Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		return nil
	}
	late := httptest.NewServer(proxy)
	defer late.Close()
	auth := vault.Auth{TokenFile: secretFile(t, e.token(t, map[string]any{"period": "24h"}))}
	if got := inspect(t, e.config(auth, late.URL)); !slices.Equal(got, []string{"vault-clock-skew"}) {
		t.Errorf("found %q", got)
	}
}

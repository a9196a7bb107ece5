package vault_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// userpass makes a user whose tokens have the least policy and the given settings.
func (e engine) userpass(t testing.TB, password string, settings map[string]any) vault.Auth {
	t.Helper()
	user := map[string]any{"password": password, "token_policies": []string{e.mount}, "token_no_default_policy": true}
	for name, value := range settings {
		user[name] = value
	}
	e.Write("auth/userpass/users/node", user)
	return vault.Auth{Userpass: &vault.Userpass{
		Mount: "userpass", Username: "node", PasswordFile: secretFile(t, password),
	}}
}

const (
	loginPath = "/v1/auth/userpass/login/node"
	renewPath = "/v1/auth/token/renew-self"
)

func TestOpenAsksNobody(t *testing.T) {
	t.Parallel()
	e := engine{&testserver.Vault{Address: "http://127.0.0.1:1"}, "transit"}
	var lines keyservicetest.Log
	key, err := vault.Open(t.Context(), e.config(vault.Auth{TokenFile: "/nonexistent/token"}), lines.Logger())
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	if lines.String() != "" {
		t.Errorf("opening said: %s", lines.String())
	}
	_, err = key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "/nonexistent/token")
}

func TestTokenLife(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t)
	e := newEngine(t, v, "transit")
	enable(t, v, "userpass")

	t.Run("revoked token is replaced", func(t *testing.T) {
		p := newProxy(t, v.Address)
		key := open(t, e.config(e.userpass(t, "one", nil), p.URL), nil)
		keyservicetest.RoundTrip(t, key)
		e.revokeAll(t, "auth/userpass/login")
		keyservicetest.RoundTrip(t, key)
		if n := p.count(loginPath); n != 2 {
			t.Errorf("%d log ins, want 2", n)
		}
	})

	t.Run("renewed, and replaced near its maximum", func(t *testing.T) {
		p := newProxy(t, v.Address)
		key := open(t, e.config(e.userpass(t, "one", map[string]any{"token_ttl": "3s", "token_max_ttl": "6s"}), p.URL), nil)
		for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			keyservicetest.RoundTrip(t, key)
		}
		if p.count(renewPath) < 2 || p.count(loginPath) < 2 || p.count(loginPath) > 4 {
			t.Errorf("%d renewals and %d log ins in 8 s", p.count(renewPath), p.count(loginPath))
		}
	})

	t.Run("expires while the server is away", func(t *testing.T) {
		p := newProxy(t, v.Address)
		key := open(t, e.config(e.userpass(t, "one", map[string]any{"token_ttl": "1s", "token_max_ttl": "1s"}), p.URL), nil)
		w := keyservicetest.Wrap(t, key, "")
		repair := p.set(cut)
		time.Sleep(1500 * time.Millisecond)
		_, err := key.Unwrap(t.Context(), w, aad)
		keyservicetest.WantKind(t, err, keyservice.Unavailable, "")
		repair()
		if _, err := key.Unwrap(t.Context(), w, aad); err != nil {
			t.Errorf("after the outage: %v", err)
		}
	})

	t.Run("wrong password does not flood the server", func(t *testing.T) {
		p := newProxy(t, v.Address)
		auth := e.userpass(t, "right", nil)
		keyservicetest.ReplaceFile(t, auth.Userpass.PasswordFile, "wrong-one")
		var lines keyservicetest.Log
		key := open(t, e.config(auth, p.URL), lines.Logger())
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			_, err := key.Wrap(t.Context(), "", secret, aad)
			keyservicetest.WantKind(t, err, keyservice.Denied, "invalid username or password")
		}
		if n := p.count(loginPath); n < 1 || n > 8 { // 4 if the machine keeps time; a flood would be hundreds
			t.Errorf("%d log ins in 2 s", n)
		}
		keyservicetest.ReplaceFile(t, auth.Userpass.PasswordFile, "right")
		keyservicetest.RoundTrip(t, key) // at once, whatever the wait is
		if strings.Contains(lines.String(), "wrong-one") {
			t.Error("the log holds the password")
		}
	})

	t.Run("policy that denies does not flood the server with log ins", func(t *testing.T) {
		p := newProxy(t, v.Address)
		key := open(t, e.config(e.userpass(t, "one", map[string]any{"token_policies": []string{"none"}}), p.URL), nil)
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			_, err := key.Wrap(t.Context(), "", secret, aad)
			keyservicetest.WantKind(t, err, keyservice.Denied, "permission denied")
		}
		if n := p.count(loginPath); n < 2 || n > 8 { // 5 if the machine keeps time; a flood would be hundreds
			t.Errorf("%d log ins in 2 s", n)
		}
	})

	t.Run("closing revokes what it logged in for", func(t *testing.T) {
		p := newProxy(t, v.Address)
		key := open(t, e.config(e.userpass(t, "one", nil), p.URL), nil)
		keyservicetest.RoundTrip(t, key)
		key.Close()
		if p.count("/v1/auth/token/revoke-self") != 1 {
			t.Error("the token was not revoked")
		}
		file := e.token(t, nil)
		key = open(t, e.config(vault.Auth{TokenFile: secretFile(t, file)}, p.URL), nil)
		keyservicetest.RoundTrip(t, key)
		key.Close()
		if p.count("/v1/auth/token/revoke-self") != 1 {
			t.Error("a token of somebody else was revoked")
		}
	})

	t.Run("closing does not wait for a server that stalls", func(t *testing.T) {
		p := newProxy(t, v.Address)
		key := open(t, e.config(e.userpass(t, "one", nil), p.URL), nil)
		keyservicetest.RoundTrip(t, key)
		p.set(stall)
		start := time.Now()
		key.Close()
		if took := time.Since(start); took > 1500*time.Millisecond {
			t.Errorf("closing took %v", took)
		}
	})
}

func TestTokenFile(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t)
	e := newEngine(t, v, "transit")

	t.Run("periodic token is renewed", func(t *testing.T) {
		t.Parallel()
		p := newProxy(t, v.Address)
		file := secretFile(t, e.token(t, map[string]any{"period": "2s", "ttl": ""}))
		key := open(t, e.config(vault.Auth{TokenFile: file}, p.URL), nil)
		keyservicetest.RoundTrip(t, key)
		time.Sleep(4 * time.Second)
		keyservicetest.RoundTrip(t, key)
		if p.count(renewPath) < 2 {
			t.Errorf("%d renewals in 4 s", p.count(renewPath))
		}
	})

	t.Run("replaced file is used before the old token fails", func(t *testing.T) {
		t.Parallel()
		var lines keyservicetest.Log
		file := secretFile(t, e.token(t, nil))
		key := open(t, e.config(vault.Auth{TokenFile: file}), lines.Logger())
		keyservicetest.RoundTrip(t, key)
		keyservicetest.ReplaceFile(t, file, e.token(t, nil))
		for end := time.Now().Add(8 * time.Second); strings.Count(lines.String(), "logged in") < 2; {
			if time.Now().After(end) {
				t.Fatalf("the new token was not noticed:\n%s", lines.String())
			}
			time.Sleep(50 * time.Millisecond)
		}
		keyservicetest.RoundTrip(t, key)
	})

	t.Run("expired token", func(t *testing.T) {
		t.Parallel()
		file := secretFile(t, e.token(t, map[string]any{"ttl": "1s", "explicit_max_ttl": "1s"}))
		key := open(t, e.config(vault.Auth{TokenFile: file}), nil)
		w := keyservicetest.Wrap(t, key, "")
		time.Sleep(3 * time.Second)
		_, err := key.Unwrap(t.Context(), w, aad)
		keyservicetest.WantKind(t, err, keyservice.Denied, "permission denied")
		keyservicetest.ReplaceFile(t, file, e.token(t, nil))
		if _, err := key.Unwrap(t.Context(), w, aad); err != nil {
			t.Errorf("with a new token: %v", err)
		}
	})

	t.Run("file that others may read", func(t *testing.T) {
		t.Parallel()
		token := e.token(t, nil)
		file := secretFile(t, token)
		if err := os.Chmod(string(file), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := open(t, e.config(vault.Auth{TokenFile: file}), nil).Wrap(t.Context(), "", secret, aad)
		keyservicetest.WantKind(t, err, keyservice.Denied, "chmod 0600")
		if strings.Contains(err.Error(), token) {
			t.Error("the error holds the token")
		}
	})

	t.Run("token that may not look itself up", func(t *testing.T) {
		t.Parallel()
		if err := v.Client().Sys().PutPolicy("bare", `
			path "transit/+/k8s" { capabilities = ["read", "update"] }`); err != nil {
			t.Fatal(err)
		}
		file := secretFile(t, e.token(t, map[string]any{"policies": []string{"bare"}}))
		keyservicetest.RoundTrip(t, open(t, e.config(vault.Auth{TokenFile: file}), nil))
	})
}

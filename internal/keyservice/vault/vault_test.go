package vault_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// engine is a transit engine with one key and a policy named after its mount, on a real server that tests may share.
type engine struct {
	*testserver.Vault
	mount string
}

const keyName = "k8s"

func newEngine(t *testing.T, v *testserver.Vault, mount string) engine {
	t.Helper()
	v.MountTransit(mount)
	v.CreateKey(mount, keyName, nil)
	e := engine{v, mount}
	e.allow(t)
	return e
}

// allow gives the policy of this engine the least policy that is documented, so that every test runs with no more.
func (e engine) allow(t testing.TB) {
	t.Helper()
	c := vault.Config{Mount: e.mount, Key: keyName}
	if err := e.Client().Sys().PutPolicy(e.mount, c.LeastPolicy()); err != nil {
		t.Fatal(err)
	}
}

// token makes a token with nothing but the least policy.
func (e engine) token(t testing.TB, params map[string]any) string {
	t.Helper()
	request := map[string]any{"policies": []string{e.mount}, "no_default_policy": true, "ttl": "1h"}
	for name, value := range params {
		request[name] = value
	}
	secret, err := e.Client().Logical().Write("auth/token/create", request)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Auth.ClientToken
}

func (e engine) config(auth vault.Auth, addresses ...string) vault.Config {
	if len(addresses) == 0 {
		addresses = []string{e.Address}
	}
	c := vault.Config{Addresses: addresses, Mount: e.mount, Key: keyName, Auth: auth}
	if e.CA != nil {
		c.CAFile = e.CA.File
	}
	return c
}

func (e engine) keyPath() string { return e.mount + "/keys/" + keyName }

func (e engine) rotate(t *testing.T) {
	t.Helper()
	e.Write(e.keyPath()+"/rotate", nil)
}

func (e engine) remove(t *testing.T) {
	t.Helper()
	e.Write(e.keyPath()+"/config", map[string]any{"deletion_allowed": true})
	if _, err := e.Client().Logical().Delete(e.keyPath()); err != nil {
		t.Fatal(err)
	}
}

func (e engine) recreate(t *testing.T) {
	t.Helper()
	e.remove(t)
	time.Sleep(1100 * time.Millisecond) // creation times have a resolution of one second
	e.CreateKey(e.mount, keyName, nil)
}

// secretFile writes a credential for one test.
func secretFile(t testing.TB, content string) credential.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credential")
	rewrite(t, credential.File(path), content)
	return credential.File(path)
}

// rewrite replaces a credential as an agent does: atomically.
func rewrite(t testing.TB, file credential.File, content string) {
	t.Helper()
	if err := os.WriteFile(string(file)+".new", []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(string(file)+".new", string(file)); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, c vault.Config, log *slog.Logger) *vault.Key {
	t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	key, err := vault.Open(t.Context(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key
}

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	aad    = []byte("cluster \x00\xff")
)

func wrap(t testing.TB, key keyservice.Key, version keyservice.VersionID) keyservice.Wrapped {
	t.Helper()
	w, err := key.Wrap(t.Context(), version, secret, aad)
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, keyservice.HintOf(err))
	}
	return w
}

func roundTrip(t testing.TB, key keyservice.Key) {
	t.Helper()
	w := wrap(t, key, "")
	got, err := key.Unwrap(t.Context(), w, aad)
	if err != nil || string(got) != string(secret) {
		t.Fatalf("unwrapping: %v, equal %t", err, string(got) == string(secret))
	}
}

func wantKind(t testing.TB, err error, kind keyservice.Kind, text string) {
	t.Helper()
	switch {
	case err == nil:
		t.Fatalf("no error, want %s", kind)
	case keyservice.KindOf(err) != kind || !strings.Contains(err.Error(), text):
		t.Fatalf("%v (kind %s), want kind %s and %q", err, keyservice.KindOf(err), kind, text)
	case keyservice.HintOf(err) == "":
		t.Errorf("no hint with: %v", err)
	}
}

// log collects log lines.
type log struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestConformance(t *testing.T) {
	t.Parallel()
	v := testserver.StartVault(t)
	client := v.Client()
	if err := client.Sys().EnableAuthWithOptions("approle", &api.EnableAuthOptions{Type: "approle"}); err != nil {
		t.Fatal(err)
	}
	n := 0
	keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
		n++
		e := newEngine(t, v, "team/transit-"+string(rune('a'+n)))
		auth, roleSecret := e.appRole(t, strings.ReplaceAll(e.mount, "/", "-"))
		p := newProxy(t, v.Address)
		return keyservicetest.Harness{
			Open:     func(t *testing.T, log *slog.Logger) keyservice.Key { return open(t, e.config(auth, p.URL), log) },
			Form:     vault.Describe().Forms[0],
			Rotate:   e.rotate,
			Recreate: e.recreate,
			Secrets:  []string{roleSecret, v.RootToken},
			Stall:    func(*testing.T) func() { return p.set(stall) },
			Faults: []keyservicetest.ServiceFault{
				{Name: "sealed", Kind: keyservice.Unavailable, Break: func(*testing.T) func() { v.Seal(); return v.Unseal }},
				{Name: "refusing connections", Kind: keyservice.Unavailable, Break: func(*testing.T) func() { return p.set(cut) }},
				{Name: "policy taken away", Kind: keyservice.Denied, Break: func(t *testing.T) func() {
					if err := client.Sys().PutPolicy(e.mount, `path "x/*" { capabilities = ["read"] }`); err != nil {
						t.Fatal(err)
					}
					return func() { e.allow(t) }
				}},
				{Name: "rate limited", Kind: keyservice.Throttled, Break: func(t *testing.T) func() {
					quota := "sys/quotas/rate-limit/" + strings.ReplaceAll(e.mount, "/", "-")
					e.Write(quota, map[string]any{"path": e.mount, "rate": 0.001})
					for range 3 { // the bucket is not empty at first
						client.Logical().Read(e.keyPath())
					}
					return func() { client.Logical().Delete(quota) }
				}},
				{Name: "damaged answers", Kind: keyservice.Corrupt, Break: func(*testing.T) func() { return p.set(garbage) }},
				{Name: "min_decryption_version raised", Kind: keyservice.Disabled, Break: func(t *testing.T) func() {
					e.rotate(t)
					e.Write(e.keyPath()+"/config", map[string]any{"min_decryption_version": 2, "min_encryption_version": 2})
					return func() {
						e.Write(e.keyPath()+"/config", map[string]any{"min_encryption_version": 0, "min_decryption_version": 1})
					}
				}},
				{Name: "key deleted", Kind: keyservice.NotFound, Break: func(t *testing.T) func() { e.remove(t); return nil }},
			},
		}
	})
}

// appRole makes a role for the engine's policy and returns how to log in to it, with its secret id.
func (e engine) appRole(t testing.TB, role string) (vault.Auth, string) {
	t.Helper()
	e.Write("auth/approle/role/"+role, map[string]any{
		"token_policies": []string{e.mount}, "token_no_default_policy": true, "token_ttl": "1h",
	})
	id, err := e.Client().Logical().Read("auth/approle/role/" + role + "/role-id")
	if err != nil {
		t.Fatal(err)
	}
	secretID := e.Write("auth/approle/role/"+role+"/secret-id", nil)["secret_id"].(string)
	return vault.Auth{AppRole: &vault.AppRole{
		Mount: "approle", RoleID: id.Data["role_id"].(string), SecretIDFile: secretFile(t, secretID),
	}}, secretID
}

package vault_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
)

func TestStoredBytesAreShort(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	w := keyservicetest.Wrap(t, open(t, e.config(auth), nil), "")
	if len(w.Bytes) != len(secret)+28 || len(w.Version) > 12 {
		t.Errorf("%d bytes and version %q for a secret of %d bytes", len(w.Bytes), w.Version, len(secret))
	}
	if !strings.HasPrefix(string(w.Version), "1.") {
		t.Errorf("version %q", w.Version)
	}
}

func TestCiphers(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	for kind, usable := range map[string]bool{
		"aes256-gcm96": true, "aes128-gcm96": true, "chacha20-poly1305": true,
		"rsa-2048": false, "ed25519": false, "derived": false,
	} {
		params := map[string]any{"type": kind}
		if kind == "derived" {
			params = map[string]any{"derived": true}
		}
		c := e.config(auth)
		c.Key = "key-" + kind
		e.CreateKey(e.mount, c.Key, params)
		if err := e.Client().Sys().PutPolicy(e.mount, c.LeastPolicy()); err != nil {
			t.Fatal(err)
		}
		key := open(t, c, nil)
		if usable {
			keyservicetest.RoundTrip(t, key)
			continue
		}
		_, err := key.Wrap(t.Context(), "", secret, aad)
		keyservicetest.WantKind(t, err, keyservice.Invalid, "")
		_, _, err = key.Versions(t.Context())
		keyservicetest.WantKind(t, err, keyservice.Invalid, "")
	}
}

func TestVersionsFollowTheKey(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	key := open(t, e.config(auth), nil)
	w1 := keyservicetest.Wrap(t, key, "")
	e.rotate(t)
	e.rotate(t)
	newest, previous, err := key.Versions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(newest.ID), "3.") || !strings.HasPrefix(string(previous.ID), "2.") {
		t.Errorf("newest %q, previous %q", newest.ID, previous.ID)
	}
	if time.Since(newest.Created).Abs() > time.Minute {
		t.Errorf("created %v", newest.Created)
	}
	if w := keyservicetest.Wrap(t, key, previous.ID); w.Version != previous.ID {
		t.Errorf("asked for %q, wrapped by %q", previous.ID, w.Version)
	}

	config := func(settings map[string]any) { e.Write(e.keyPath()+"/config", settings) }
	config(map[string]any{"min_encryption_version": 3})
	_, err = key.Wrap(t.Context(), previous.ID, secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Disabled, "minimum encryption key version")
	if _, previous, err = key.Versions(t.Context()); err != nil || previous.State != keyservice.StateOpenOnly {
		t.Errorf("previous is %s, error %v", previous.State, err)
	}
	if _, err := key.Unwrap(t.Context(), w1, aad); err != nil {
		t.Errorf("version 1 still opens: %v", err)
	}

	config(map[string]any{"min_decryption_version": 3})
	_, err = key.Unwrap(t.Context(), w1, aad)
	keyservicetest.WantKind(t, err, keyservice.Disabled, "too old")
	if _, previous, err = key.Versions(t.Context()); err != nil || previous.ID != "" {
		t.Errorf("previous is %q, error %v", previous.ID, err)
	}
	_, err = key.Wrap(t.Context(), w1.Version, secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Disabled, "min_decryption_version 3")

	e.Write(e.keyPath()+"/trim", map[string]any{"min_available_version": 3})
	_, err = key.Wrap(t.Context(), w1.Version, secret, aad)
	keyservicetest.WantKind(t, err, keyservice.NotFound, "no version")
}

func TestRecreatedKeyIsAnother(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	key := open(t, e.config(auth), nil)
	w := keyservicetest.Wrap(t, key, "")

	e.remove(t)
	_, err := key.Wrap(t.Context(), w.Version, secret, aad)
	keyservicetest.WantKind(t, err, keyservice.NotFound, "")
	_, err = key.Unwrap(t.Context(), w, aad)
	keyservicetest.WantKind(t, err, keyservice.NotFound, "encryption key not found")
	_, _, err = key.Versions(t.Context())
	keyservicetest.WantKind(t, err, keyservice.NotFound, "")

	time.Sleep(1100 * time.Millisecond)
	e.CreateKey(e.mount, keyName, nil)
	_, err = key.Unwrap(t.Context(), w, aad) // before anybody has listed versions
	keyservicetest.WantKind(t, err, keyservice.NotFound, "deleted and made again")
	newest, _, err := key.Versions(t.Context())
	if err != nil || newest.ID == w.Version {
		t.Fatalf("newest %q after %q, error %v", newest.ID, w.Version, err)
	}
	_, err = key.Wrap(t.Context(), w.Version, secret, aad)
	keyservicetest.WantKind(t, err, keyservice.NotFound, "deleted and made again")
	keyservicetest.RoundTrip(t, key)
}

// TestDeletedKeyIsNotMadeAgain: encrypting with a missing key makes one, for a token that may create.
func TestDeletedKeyIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	key := open(t, e.config(auth), nil)
	w := keyservicetest.Wrap(t, key, "")
	e.remove(t)
	_, err := key.Wrap(t.Context(), w.Version, secret, aad)
	keyservicetest.WantKind(t, err, keyservice.NotFound, "")
	if secret, err := e.Client().Logical().Read(e.keyPath()); err != nil || secret != nil {
		t.Errorf("the key is there again: %v, error %v", secret, err)
	}
}

// TestOneCallPerWrap: the version is known from the last read of the key.
func TestOneCallPerWrap(t *testing.T) {
	t.Parallel()
	e, auth := fixture(t)
	p := newProxy(t, e.Address)
	key := open(t, e.config(auth, p.URL), nil)
	newest, _, err := key.Versions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		w := keyservicetest.Wrap(t, key, newest.ID)
		if _, err := key.Unwrap(t.Context(), w, aad); err != nil {
			t.Fatal(err)
		}
	}
	keys, encrypt, decrypt := p.count("/v1/"+e.keyPath()), p.count("/v1/transit/encrypt/k8s"), p.count("/v1/transit/decrypt/k8s")
	if keys != 1 || encrypt != 10 || decrypt != 10 {
		t.Errorf("%d reads, %d encryptions, %d decryptions", keys, encrypt, decrypt)
	}
}

// TestSoftDeletedKey speaks as OpenBao's documentation says: the key can be read, and does nothing.
func TestSoftDeletedKey(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/keys/"):
			w.Write([]byte(`{"data":{"type":"xchacha20-poly1305","latest_version":1,"keys":{"1":1700000000},"soft_deleted":true}}`))
		default:
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"errors":["this key serves no requests"]}`))
		}
	}))
	defer server.Close()
	key := open(t, vault.Config{
		Addresses: []string{server.URL}, Mount: "transit", Key: "k8s", Auth: vault.Auth{TokenFile: secretFile(t, "token")},
	}, nil)
	newest, _, err := key.Versions(t.Context())
	if err != nil || newest.State != keyservice.StateDisabled {
		t.Fatalf("the newest version is %s, error %v", newest.State, err)
	}
	_, err = key.Wrap(t.Context(), newest.ID, secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Disabled, "soft-deleted")
	_, err = key.Unwrap(t.Context(), keyservice.Wrapped{Version: newest.ID, Bytes: make([]byte, 72)}, aad)
	keyservicetest.WantKind(t, err, keyservice.Disabled, "soft-deleted")
}

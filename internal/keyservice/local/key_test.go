package local_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/local"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

const words = "correct horse battery staple"

var quiet = slog.New(slog.DiscardHandler)

// cheap seals with a passphrase that is opened fast.
func cheap(words string) keystore.Sealer {
	return keystore.PassphraseAt(keystore.Cost{MemoryKiB: 8, Passes: 1, Lanes: 1}, credential.NewSecret([]byte(words)))
}

// sealed returns the configuration of a new keystore that a passphrase seals.
func sealed(t *testing.T) local.Config {
	t.Helper()
	config := local.Config{
		Keystore:       filepath.Join(t.TempDir(), "keystore"),
		PassphraseFile: credential.File(write(t, filepath.Join(t.TempDir(), "passphrase"), words+"\n")),
	}
	create(t, config, cheap(words))
	return config
}

func create(t *testing.T, config local.Config, sealer keystore.Sealer) {
	t.Helper()
	if _, err := keystore.Create(config.Keystore, sealer); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, config local.Config, log *slog.Logger) *local.Key {
	t.Helper()
	return keyservicetest.Open(t, local.Open, config, log)
}

func rotate(t *testing.T, config local.Config, words string) keyservice.Version {
	t.Helper()
	v, err := keystore.Rotate(config.Keystore, cheap(words), 0)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestConformance(t *testing.T) {
	keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
		config := sealed(t)
		return keyservicetest.Harness{
			Open:   func(t *testing.T, log *slog.Logger) keyservice.Key { return open(t, config, log) },
			Form:   local.Describe().Forms[0],
			Rotate: func(t *testing.T) { rotate(t, config, words) },
			Recreate: func(t *testing.T) {
				if err := os.Remove(config.Keystore); err != nil {
					t.Fatal(err)
				}
				create(t, config, cheap(words))
			},
			Secrets: []string{words},
		}
	})
}

func TestWrapAddsOnlyNonceAndTag(t *testing.T) {
	wrapped, err := open(t, sealed(t), quiet).Wrap(t.Context(), "", make([]byte, 32), nil)
	if err != nil || len(wrapped.Bytes) != 60 {
		t.Errorf("32 bytes wrapped are %d, error %v", len(wrapped.Bytes), err)
	}
}

// vector returns the configuration of a keystore from the vectors, and its keys.
func vector(t *testing.T, name string) (config local.Config, ids []keyservice.VersionID, keys [][]byte) {
	t.Helper()
	text, err := os.ReadFile("../../../testdata/vectors/keystore/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Sealing, Secret, File string
		Versions              []struct {
			ID  keyservice.VersionID
			Key string
		}
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config.Keystore = write(t, filepath.Join(dir, "keystore"), string(unhex(t, v.File)))
	secret := credential.File(write(t, filepath.Join(t.TempDir(), "secret"), v.Secret))
	switch v.Sealing {
	case "passphrase":
		config.PassphraseFile = secret
	case "key":
		config.KeyFile = secret
	default:
		config.Unsealed = true
	}
	for _, version := range v.Versions {
		ids, keys = append(ids, version.ID), append(keys, unhex(t, version.Key))
	}
	return config, ids, keys
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStatesOfVersions(t *testing.T) {
	config, ids, keys := vector(t, "key-three-states") // disabled, open only, enabled
	key := open(t, config, quiet)
	secret, aad := []byte("a secret"), []byte("aad")
	for i, want := range []struct{ wraps, unwraps bool }{{false, false}, {false, true}, {true, true}} {
		_, err := key.Wrap(t.Context(), ids[i], secret, aad)
		if want.wraps != (err == nil) || err != nil && keyservice.KindOf(err) != keyservice.Disabled {
			t.Errorf("wrapping with version %d: %v", i, err)
		}
		// The wrapped form is documented: a nonce, then what AES-256-GCM makes with the version's key.
		wrapped := keyservice.Wrapped{Version: ids[i], Bytes: seal(t, keys[i], secret, aad)}
		got, err := key.Unwrap(t.Context(), wrapped, aad)
		if want.unwraps != (err == nil) || err != nil && keyservice.KindOf(err) != keyservice.Disabled {
			t.Errorf("unwrapping with version %d: %v", i, err)
		}
		if want.unwraps && !bytes.Equal(got, secret) {
			t.Errorf("version %d: unwrapped another secret", i)
		}
	}
	newest, previous, err := key.Versions(t.Context())
	if err != nil || newest.ID != ids[2] || previous.ID != ids[1] || previous.State != keyservice.StateOpenOnly {
		t.Errorf("newest %v, previous %v, %v", newest, previous, err)
	}
}

func seal(t *testing.T, key, secret, aad []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte("twelve bytes")
	return aead.Seal(bytes.Clone(nonce), nonce, secret, aad)
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, config *local.Config)
		kind  keyservice.Kind
	}{
		"keystore missing": {func(t *testing.T, c *local.Config) { os.Remove(c.Keystore) }, keyservice.NotFound},
		"keystore world-readable": {func(t *testing.T, c *local.Config) {
			if err := os.Chmod(c.Keystore, 0o644); err != nil {
				t.Fatal(err)
			}
		}, keyservice.Denied},
		"keystore damaged": {func(t *testing.T, c *local.Config) {
			if err := os.Truncate(c.Keystore, 50); err != nil {
				t.Fatal(err)
			}
		}, keyservice.Corrupt},
		"another file": {func(t *testing.T, c *local.Config) { write(t, c.Keystore, "hello") }, keyservice.Invalid},
		"wrong passphrase": {func(t *testing.T, c *local.Config) {
			write(t, string(c.PassphraseFile), "incorrect horse battery")
		}, keyservice.Denied},
		"passphrase missing": {func(t *testing.T, c *local.Config) { os.Remove(string(c.PassphraseFile)) }, keyservice.Denied},
		"passphrase world-readable": {func(t *testing.T, c *local.Config) {
			if err := os.Chmod(string(c.PassphraseFile), 0o644); err != nil {
				t.Fatal(err)
			}
		}, keyservice.Denied},
		"unsealed asked for": {func(t *testing.T, c *local.Config) { c.PassphraseFile, c.Unsealed = "", true }, keyservice.Invalid},
		"unsealed in place of sealed": {func(t *testing.T, c *local.Config) {
			os.Remove(c.Keystore)
			create(t, *c, keystore.Unsealed())
		}, keyservice.Invalid},
	} {
		config := sealed(t)
		c.spoil(t, &config)
		_, err := local.Open(t.Context(), config, quiet)
		keyservicetest.CheckKind(t, name, err, c.kind, "", words)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := local.Open(ended, sealed(t), quiet); !keyservice.Canceled(err) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCloseWhileInUse(t *testing.T) {
	for range 20 {
		config := sealed(t)
		key := open(t, config, quiet)
		var calls sync.WaitGroup
		for i := range 6 {
			calls.Go(func() {
				for {
					wrapped, err := key.Wrap(t.Context(), "", []byte("a secret"), nil)
					if err == nil && i == 0 {
						_, _, err = key.Versions(t.Context())
					} else if err == nil {
						_, err = key.Unwrap(t.Context(), wrapped, nil)
					}
					if err != nil {
						if keyservice.KindOf(err) != keyservice.Unavailable {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		rotate(t, config, words)
		calls.Go(func() { key.Close() })
		calls.Wait()
	}
}

func TestErrorsAreErrors(t *testing.T) {
	key := open(t, sealed(t), quiet)
	_, err := key.Unwrap(t.Context(), keyservice.Wrapped{Bytes: make([]byte, 60)}, nil)
	if _, ok := errors.AsType[*keyservice.Error](err); !ok || keyservice.KindOf(err) != keyservice.NotFound {
		t.Errorf("unwrapping without a version: %v", err)
	}
}

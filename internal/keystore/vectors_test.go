package keystore_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

// vector is a file of testdata/vectors/keystore. An implementation that shares no code with this one made them.
type vector struct {
	Says     string `json:"says"`
	Sealing  string `json:"sealing"`
	Secret   string `json:"secret"`
	File     string `json:"file"`
	Versions []struct {
		ID      keyservice.VersionID `json:"id"`
		Created int64                `json:"created"`
		State   string               `json:"state"`
		Key     string               `json:"key"`
	} `json:"versions"`
	Failure string `json:"failure"`
}

func (v vector) sealer() keystore.Sealer {
	secret := credential.NewSecret([]byte(v.Secret))
	switch v.Sealing {
	case "passphrase":
		return keystore.Passphrase(secret)
	case "key":
		return keystore.Key(secret)
	}
	return keystore.Unsealed()
}

func (v vector) content(t testing.TB) []byte {
	t.Helper()
	content, err := hex.DecodeString(v.File)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func vectors(t testing.TB) map[string]vector {
	t.Helper()
	files, err := filepath.Glob("../../testdata/vectors/keystore/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	all := make(map[string]vector)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = v
	}
	return all
}

var failures = map[string]error{
	"damaged":       keystore.ErrDamaged,
	"wrong-secret":  keystore.ErrWrongSecret,
	"other-sealing": keystore.ErrSealing,
	"invalid":       keystore.ErrInvalid,
	"weak-secret":   keystore.ErrWeakSecret,
}

func TestVectors(t *testing.T) {
	for name, v := range vectors(t) {
		t.Run(name, func(t *testing.T) {
			path := file(t, v.content(t))
			store, err := keystore.Open(path, v.sealer())
			if v.Failure != "" {
				want, known := failures[v.Failure]
				if !known || !errors.Is(err, want) {
					t.Fatalf("%s: error %v, want %s", v.Says, err, v.Failure)
				}
				if keystore.Hint(err) == "" {
					t.Errorf("no hint with: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer store.Release()
			v.compare(t, store)
		})
	}
}

func (v vector) compare(t *testing.T, store *keystore.Store) {
	t.Helper()
	versions := store.Summary().Versions
	if len(versions) != len(v.Versions) || store.Summary().Count != len(versions) {
		t.Fatalf("%d versions, want %d", len(versions), len(v.Versions))
	}
	for i, want := range v.Versions {
		got := versions[i]
		if got.ID != want.ID || got.Created.Unix() != want.Created || got.State.String() != want.State {
			t.Errorf("version %d: %v, want %v", i, got, want)
		}
		err := store.Use(want.ID, func(_ keyservice.Version, key []byte) error {
			if hex.EncodeToString(key) != want.Key {
				t.Errorf("version %d: another key", i)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// The checksum finds every accidental change, whatever it hits; opening must not depend on finding it: see the forged
// vectors for changes behind a right checksum.
func TestEveryFlippedBitAndTruncationIsRefused(t *testing.T) {
	for _, name := range []string{"passphrase-least-cost", "key-three-states", "none"} {
		v := vectors(t)[name]
		content := v.content(t)
		refused := func(what string, at int, content []byte) {
			t.Helper()
			_, err := keystore.Open(file(t, content), v.sealer())
			if inMagic := what == "flipped" && at/8 < 4; !errors.Is(err, keystore.ErrDamaged) && !inMagic {
				t.Errorf("%s: %s at %d: %v", name, what, at, err)
			} else if inMagic && !errors.Is(err, keystore.ErrInvalid) {
				t.Errorf("%s: %s at %d, in the magic: %v", name, what, at, err)
			}
		}
		for bit := range len(content) * 8 {
			changed := bytes.Clone(content)
			changed[bit/8] ^= 1 << (bit % 8)
			refused("flipped", bit, changed)
		}
		for size := range content {
			refused("cut", size, content[:size])
		}
		refused("longer", len(content), append(bytes.Clone(content), 0))
	}
}

func FuzzOpen(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.content(f))
	}
	key := keystore.Key(credential.NewSecret([]byte("b3f1Jx0V9yQ4mW7eKc2sT8uN5rL6pZaD")))
	path := filepath.Join(f.TempDir(), "keystore")
	f.Fuzz(func(t *testing.T, content []byte) {
		content = keystore.Checksummed(content) // or nothing would get past the checksum
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, sealer := range []keystore.Sealer{key, keystore.Unsealed()} {
			store, err := keystore.Open(path, sealer)
			if err != nil {
				continue
			}
			again, err := store.Encode(sealer)
			if err == nil && sealer.Sealing() == keystore.SealingNone && !bytes.Equal(again, content) {
				t.Error("two unsealed files hold the same")
			}
			if newest, _ := store.Summary().Newest(); err != nil || newest.ID == "" {
				t.Errorf("what opens does not encode: %v", err)
			}
			store.Release()
		}
	})
}

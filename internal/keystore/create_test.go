package keystore_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

func file(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keystore")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// created returns the path of a new keystore.
func created(t testing.TB, sealer keystore.Sealer) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keystore")
	if _, err := keystore.Create(path, sealer); err != nil {
		t.Fatal(err)
	}
	return path
}

func key(fill byte) keystore.Sealer {
	return keystore.Key(credential.NewSecret(bytes.Repeat([]byte{fill}, 32)))
}

func passphrase(words string) keystore.Sealer {
	cheap := keystore.Cost{MemoryKiB: 8, Passes: 1, Lanes: 1}
	return keystore.PassphraseAt(cheap, credential.NewSecret([]byte(words)))
}

const words = "correct horse battery staple"

// keys returns a copy of every key in a keystore.
func keys(t *testing.T, path string, sealer keystore.Sealer) map[keyservice.VersionID]string {
	t.Helper()
	store, err := keystore.Open(path, sealer)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Release()
	all := make(map[keyservice.VersionID]string)
	for _, v := range store.Summary().Versions {
		err := store.Use(v.ID, func(_ keyservice.Version, key []byte) error {
			all[v.ID] = string(key)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestCreateSealsEveryWay(t *testing.T) {
	for name, sealer := range map[string]keystore.Sealer{
		"passphrase": passphrase(words), "key": key(1), "none": keystore.Unsealed(),
	} {
		path := filepath.Join(t.TempDir(), "keystore")
		before := time.Now().Truncate(time.Second)
		v, err := keystore.Create(path, sealer)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v.Created.Before(before) || v.Created.After(time.Now()) || v.State != keyservice.StateEnabled || len(v.ID) != 12 {
			t.Errorf("%s: made %v", name, v)
		}
		summary, err := keystore.Verify(path, sealer)
		if err != nil || summary.Sealing != sealer.Sealing() || len(summary.Versions) != 1 || summary.Versions[0] != v {
			t.Errorf("%s: verified %v, %v", name, summary, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if inFile := bytes.Contains(content, []byte(keys(t, path, sealer)[v.ID])); inFile != (name == "none") {
			t.Errorf("%s: key in the file: %t", name, inFile)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestCreateNeverOverwrites(t *testing.T) {
	path := created(t, key(1))
	before := keys(t, path, key(1))
	if _, err := keystore.Create(path, key(2)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a keystore: %v", err)
	}
	link := filepath.Join(t.TempDir(), "keystore")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Create(link, key(2)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a link: %v", err)
	}
	if after := keys(t, path, key(1)); len(after) != 1 || !sameKeys(before, after) {
		t.Error("the keystore changed")
	}
}

func sameKeys(a, b map[keyservice.VersionID]string) bool {
	for id := range a {
		if a[id] != b[id] {
			return false
		}
	}
	return true
}

func TestCreateRefusesWeakSecrets(t *testing.T) {
	dir := t.TempDir()
	for name, sealer := range map[string]keystore.Sealer{
		"passphrase": passphrase("fifteen letters"),
		"key":        keystore.Key(credential.NewSecret(make([]byte, 31))),
	} {
		_, err := keystore.Create(filepath.Join(dir, name), sealer)
		if !errors.Is(err, keystore.ErrWeakSecret) || keystore.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := keystore.Create(filepath.Join(dir, "nothing"), keystore.Sealer{}); !errors.Is(err, keystore.ErrSealing) {
		t.Errorf("nothing to seal with: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

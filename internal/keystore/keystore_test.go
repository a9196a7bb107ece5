package keystore_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

func TestBackup(t *testing.T) {
	path := created(t, key(1))
	if _, err := keystore.Rotate(path, key(1), 0); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]keystore.Sealer{"same": key(1), "other": passphrase(words)} {
		backup := filepath.Join(t.TempDir(), "backup")
		if _, err := keystore.Backup(path, key(1), backup, to); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if have := keys(t, backup, to); len(have) != 2 || !sameKeys(keys(t, path, key(1)), have) {
			t.Errorf("%s: other keys", name)
		}
		if _, err := keystore.Backup(path, key(1), backup, to); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: over a backup: %v", name, err)
		}
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if _, err := keystore.Backup(path, key(1), plain, keystore.Unsealed()); !errors.Is(err, keystore.ErrSealing) {
		t.Errorf("unsealed backup of a sealed keystore: %v", err)
	}
	if _, err := os.Lstat(plain); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unsealed backup: %v", err)
	}
}

func TestUse(t *testing.T) {
	store, err := keystore.Open(created(t, key(1)), key(1))
	if err != nil {
		t.Fatal(err)
	}
	never := func(keyservice.Version, []byte) error { t.Error("called"); return nil }
	if err := store.Use("nosuchversio", never); !errors.Is(err, keystore.ErrNoVersion) {
		t.Errorf("unknown version: %v", err)
	}
	store.Release()
	store.Release()
	newest, _ := store.Summary().Newest()
	if err := store.Use(newest.ID, never); err == nil {
		t.Error("used after Release")
	}
}

func TestFingerprintFollowsContent(t *testing.T) {
	path := created(t, key(1))
	store, err := keystore.Open(path, key(1))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Release()
	if sum, err := keystore.Fingerprint(path); err != nil || sum != store.Fingerprint() {
		t.Errorf("nothing changed, error %v", err)
	}
	if _, err := keystore.Rotate(path, key(1), 0); err != nil {
		t.Fatal(err)
	}
	if sum, err := keystore.Fingerprint(path); err != nil || sum == store.Fingerprint() {
		t.Errorf("rotated, error %v", err)
	}
}

func TestFilesOpenToOthersAreRefused(t *testing.T) {
	path := created(t, key(1))
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, opening := keystore.Open(path, key(1))
	_, rotating := keystore.Rotate(path, key(1), 0)
	_, peeking := keystore.Peek(path)
	_, comparing := keystore.Fingerprint(path)
	for _, err := range []error{opening, rotating, peeking, comparing} {
		if err == nil || !strings.Contains(err.Error(), "chmod 0600 "+path) {
			t.Errorf("error %v", err)
		}
	}
}

package keystore_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

func TestRotateKeepsWhatWasThere(t *testing.T) {
	for name, sealer := range map[string]keystore.Sealer{
		"passphrase": passphrase(words), "key": key(1), "none": keystore.Unsealed(),
	} {
		path := created(t, sealer)
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		first := keys(t, path, sealer)
		v, err := keystore.Rotate(path, sealer, 0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		summary, err := keystore.Verify(path, sealer)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		newest, previous := summary.Newest()
		if after := keys(t, path, sealer); newest != v || first[previous.ID] == "" || !sameKeys(first, after) {
			t.Errorf("%s: newest %v, previous %v", name, newest, previous)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestRotateKeepsTheCost(t *testing.T) {
	path := created(t, passphrase(words))
	if _, err := keystore.Rotate(path, keystore.Passphrase(credential.NewSecret([]byte(words))), 0); err != nil {
		t.Fatal(err)
	}
	if summary, err := keystore.Peek(path); err != nil || !summary.Cost.Weak() || summary.Count != 2 || summary.Versions != nil {
		t.Errorf("after rotating: %v, %v", summary, err)
	}
}

func TestRotateForLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := created(t, key(1))
		v, err := keystore.Rotate(path, key(1), time.Hour)
		if err != nil || !v.Created.Equal(time.Now().Add(time.Hour).Truncate(time.Second)) {
			t.Fatalf("made %v, %v", v, err)
		}
		before := keys(t, path, key(1))
		if _, err := keystore.Rotate(path, key(1), 0); !errors.Is(err, keystore.ErrPending) {
			t.Errorf("rotating again at once: %v", err)
		}
		if after := keys(t, path, key(1)); len(after) != 2 || !sameKeys(before, after) {
			t.Error("the keystore changed")
		}
		time.Sleep(time.Hour)
		if _, err := keystore.Rotate(path, key(1), 0); err != nil {
			t.Errorf("an hour later: %v", err)
		}
	})
	if _, err := keystore.Rotate(created(t, key(1)), key(1), -time.Second); err == nil {
		t.Error("rotated into the past")
	}
}

func TestRotateReplacesTheTargetOfALink(t *testing.T) {
	path := created(t, key(1))
	link := filepath.Join(t.TempDir(), "keystore")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Rotate(link, key(1), 0); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 || len(keys(t, path, key(1))) != 2 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
}

func TestRotateRemovesWhatAKilledOneLeft(t *testing.T) {
	path := created(t, key(1))
	left := filepath.Join(filepath.Dir(path), ".keystore.new")
	if err := os.WriteFile(left, []byte("half a keystore"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Rotate(path, key(1), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

// However many rotate at once, each either adds its version or says that it did not.
func TestConcurrentRotationsLoseNothing(t *testing.T) {
	path := created(t, key(1))
	var mu sync.Mutex
	made := map[keyservice.VersionID]bool{}
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 8 {
				v, err := keystore.Rotate(path, key(1), 0)
				if err != nil && !errors.Is(err, keystore.ErrBusy) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					made[v.ID] = true
					mu.Unlock()
				}
			}
		})
	}
	writers.Wait()
	have := keys(t, path, key(1))
	for id := range made {
		if have[id] == "" {
			t.Errorf("version %s is lost", id)
		}
	}
	if len(have) != len(made)+1 || len(made) == 0 {
		t.Errorf("%d versions after %d rotations", len(have), len(made))
	}
}

package local_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/local"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

func logger() (*slog.Logger, *bytes.Buffer) {
	var log bytes.Buffer
	return slog.New(slog.NewTextHandler(&log, nil)), &log
}

func TestDamagedFileLeavesTheOldVersionsInUse(t *testing.T) {
	config := sealed(t)
	log, lines := logger()
	key := open(t, config, log)
	was := keyservicetest.Newest(t, key)
	wrapped, err := key.Wrap(t.Context(), "", []byte("a secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(config.Keystore)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(){
		"cut":      func() { write(t, config.Keystore, string(good[:60])) },
		"missing":  func() { os.Remove(config.Keystore) },
		"resealed": func() { os.Remove(config.Keystore); create(t, config, cheap("another passphrase")) },
	} {
		lines.Reset()
		spoil()
		for range 3 {
			if keyservicetest.Newest(t, key) != was {
				t.Errorf("%s: another version", name)
			}
			if _, err := key.Unwrap(t.Context(), wrapped, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := strings.Count(lines.String(), "level=ERROR"); n != 1 || !strings.Contains(lines.String(), "hint=") {
			t.Errorf("%s: %d errors in the log, want 1 with a hint: %s", name, n, lines)
		}
		if f := keyservicetest.Find(t, key, "keystore-unusable"); f.Severity != finding.Error {
			t.Errorf("%s: found %v", name, f)
		}
		write(t, config.Keystore, string(good))
		keyservicetest.Newest(t, key)
		if !strings.Contains(lines.String(), "can be used again") {
			t.Errorf("%s, repaired: %s", name, lines)
		}
		if f := keyservicetest.Find(t, key, "keystore-unusable"); f.Rule != "" {
			t.Errorf("%s, repaired: found %v", name, f)
		}
	}
}

// Files arrive one after the other when a keystore is sealed anew: neither order may need a restart.
func TestNewPassphraseIsTakenOver(t *testing.T) {
	config := sealed(t)
	key := open(t, config, quiet)
	was := keyservicetest.Newest(t, key)
	again := config.Keystore + ".again"
	if _, err := keystore.Backup(config.Keystore, cheap(words), again, cheap("another passphrase")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(again, config.Keystore); err != nil {
		t.Fatal(err)
	}
	rotated := rotate(t, config, "another passphrase")
	if keyservicetest.Newest(t, key) != was {
		t.Fatal("opened without the passphrase")
	}
	write(t, string(config.PassphraseFile), "another passphrase")
	if keyservicetest.Newest(t, key) != rotated.ID {
		t.Error("the new passphrase was not tried")
	}
}

// Anybody who writes to etcd can have versions looked up that do not exist.
func TestRejectedFileCostsArgon2idOnce(t *testing.T) {
	config := sealed(t)
	key := open(t, config, quiet)
	os.Remove(config.Keystore)
	costly := keystore.Cost{MemoryKiB: 32 << 10, Passes: 1, Lanes: 1}
	create(t, config, keystore.PassphraseAt(costly, credential.NewSecret([]byte("another passphrase"))))
	keyservicetest.Newest(t, key)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 5 {
		_, err := key.Unwrap(t.Context(), keyservice.Wrapped{Version: "unknown", Bytes: make([]byte, 60)}, nil)
		if keyservice.KindOf(err) != keyservice.NotFound {
			t.Error(err)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > uint64(costly.MemoryKiB)<<10 {
		t.Errorf("5 look-ups took %d bytes of memory: argon2id ran", took)
	}
}

func TestLostVersionIsLogged(t *testing.T) {
	config := sealed(t)
	log, lines := logger()
	key := open(t, config, log)
	lost := keyservicetest.Newest(t, key)
	os.Remove(config.Keystore)
	create(t, config, cheap(words))
	if keyservicetest.Newest(t, key) == lost || !strings.Contains(lines.String(), "lacks a version") || !strings.Contains(lines.String(), string(lost)) {
		t.Errorf("log: %s", lines)
	}
}

func TestUnsealedKeystoreIsLoggedLoudly(t *testing.T) {
	log, lines := logger()
	open(t, sealed(t), log)
	if lines.Len() > 0 {
		t.Errorf("sealed: %s", lines)
	}
	config := local.Config{Keystore: filepath.Join(t.TempDir(), "keystore"), Unsealed: true}
	create(t, config, keystore.Unsealed())
	open(t, config, log)
	if !strings.Contains(lines.String(), "level=WARN") || !strings.Contains(lines.String(), "not sealed") {
		t.Errorf("unsealed: %s", lines)
	}
}

func TestInspect(t *testing.T) {
	unsealed := local.Config{Keystore: filepath.Join(t.TempDir(), "keystore"), Unsealed: true}
	create(t, unsealed, keystore.Unsealed())
	beside := sealed(t)
	passphrase := filepath.Join(filepath.Dir(beside.Keystore), "passphrase")
	beside.PassphraseFile = credential.File(write(t, passphrase, words))
	writable := sealed(t)
	if err := os.Chmod(filepath.Dir(writable.Keystore), 0o777); err != nil {
		t.Fatal(err)
	}
	best, _, _ := vector(t, "passphrase")
	for rule, config := range map[string]local.Config{
		"keystore-unsealed": unsealed, "keystore-cheap-passphrase": sealed(t), "keystore-secret-beside": beside,
		"keystore-directory-writable": writable,
	} {
		if f := keyservicetest.Find(t, open(t, config, quiet), rule); f.Severity < finding.Warning || f.Where != config.Keystore {
			t.Errorf("%s: found %v", rule, f)
		}
		if f := keyservicetest.Find(t, open(t, best, quiet), rule); f.Rule != "" {
			t.Errorf("%s: found in a good keystore: %v", rule, f)
		}
	}
	if f := keyservicetest.Find(t, open(t, best, quiet), "keystore-copies"); f.Severity != finding.Info {
		t.Errorf("copies: found %v", f)
	}
}

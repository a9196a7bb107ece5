//go:build goexperiment.runtimesecret

package local_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/local"
	"github.com/trousseau-io/trousseau/internal/keystore"
	"github.com/trousseau-io/trousseau/internal/secretmem"
	"github.com/trousseau-io/trousseau/internal/secretmem/secretmemtest"
)

// Without GOEXPERIMENT=runtimesecret the cipher's expanded keys, which begin with the key, stay in the heap.
func TestIdleKeyIsInNoDump(t *testing.T) {
	dir := t.TempDir()
	secret := credential.File(write(t, filepath.Join(dir, "secret"), "b3f1Jx0V9yQ4mW7eKc2sT8uN5rL6pZaD"))
	content, err := secret.Read()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config local.Config
		sealer keystore.Sealer
	}{
		"passphrase": {local.Config{PassphraseFile: secret}, keystore.Passphrase(content)},
		"key":        {local.Config{KeyFile: secret}, keystore.Key(content)},
		"unsealed":   {local.Config{Unsealed: true}, keystore.Unsealed()},
	} {
		c.config.Keystore = filepath.Join(dir, name)
		create(t, c.config, c.sealer)
		complement := complementOfKey(t, c.config.Keystore, c.sealer)
		key := open(t, c.config, quiet)
		if key.Protection() != secretmem.Hidden {
			t.Skipf("this kernel has no memfd_secret: who may trace the process reads pages that are %s", key.Protection())
		}
		wrapped, err := key.Wrap(t.Context(), "", []byte("a secret"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := key.Unwrap(t.Context(), wrapped, nil); err != nil {
			t.Fatal(err)
		}
		runtime.GC() // erases what the cryptography left
		runtime.GC()
		if secretmemtest.Found(t, os.Getpid(), complement) {
			t.Errorf("%s: the key is in memory", name)
		}
	}
}

func complementOfKey(t *testing.T, path string, sealer keystore.Sealer) (complement []byte) {
	t.Helper()
	store, err := keystore.Open(path, sealer)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Release()
	newest, _ := store.Summary().Newest()
	err = store.Use(newest.ID, func(_ keyservice.Version, key []byte) error {
		complement = secretmemtest.Complement(key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return complement
}

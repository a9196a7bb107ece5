//go:build goexperiment.runtimesecret

package tpm_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmtest"
	"github.com/trousseau-io/trousseau/internal/secretmem/secretmemtest"
)

// The keystore's key passes the memory of this process when a keystore is opened, and does not stay there.
func TestUnsealedKeyIsInNoDump(t *testing.T) {
	config := created(t, tpmtest.Start(t))
	of := identityFor(t)
	recipients, err := tpm.ParseRecipients([]string{of.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := config.Backup(t.Context(), backup, recipients); err != nil {
		t.Fatal(err)
	}
	var complement []byte
	func() {
		identity := credential.File(write(t, filepath.Join(t.TempDir(), "identity"), of.String()))
		key, err := tpm.OpenBackup(backup, identity)
		if err != nil {
			t.Fatal(err)
		}
		defer key.Wipe()
		complement = secretmemtest.Complement(key.Bytes())
	}()
	for range 3 {
		open(t, config, quiet)
	}
	runtime.GC() // erases what the cryptography left
	runtime.GC()
	if secretmemtest.Found(t, os.Getpid(), complement) {
		t.Error("the keystore's key is in memory")
	}
}

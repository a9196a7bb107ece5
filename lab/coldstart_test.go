package lab_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/lab/cluster"
)

// TestColdStart reboots a node while its only key service is away: daemon and API server start with nothing in memory. The API
// server reads what it read before and writes, under the same key id; nothing is lost when the service is back.
func TestColdStart(t *testing.T) {
	t.Parallel()
	vault, bao := vaultKey(t)
	disk, _ := threeKeys(t)
	state := t.TempDir()
	d := startDaemon(t, daemonConfig{
		key: bao, outage: "grace, grace: 10m",
		more: fmt.Sprintf("- {%s}\npolicies: [{keys: [bao]}]\nstateDir: %s\ncoldStart: {sealedBy: disk, seeds: 100}\n", disk, state),
	})
	c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, d.kmsV2())})
	createSecret(t, c, "before", plaintext)
	kept := func(name string) error {
		_, err := os.Lstat(filepath.Join(state, name))
		return err
	}
	eventually(t, 30*time.Second, func() error { return errors.Join(kept("coldstart.spare"), kept("coldstart.seeds")) })

	c.APIServer.Stop()
	d.Stop()
	vault.Stop()
	d.Start()
	c.APIServer.Start() // ready, its KMS plugin as well
	wantSecret(t, c, "before", plaintext)
	createSecret(t, c, "during", plaintext)
	wantSealed(t, c, etcdKey("during"), v2Prefix)
	if keyID(t, c, "during") != keyID(t, c, "before") {
		t.Error("what was written in the outage has another key id")
	}
	if kept("coldstart.spare") == nil {
		t.Error("the spare root was used and is still on the disk")
	}

	vault.Start()
	eventually(t, 30*time.Second, func() error { return kept("coldstart.spare") })
	c.APIServer.Restart()
	for _, name := range []string{"before", "during"} {
		wantSecret(t, c, name, plaintext)
	}
	createSecret(t, c, "after", plaintext)
}

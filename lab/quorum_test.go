package lab_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
	"github.com/trousseau-io/trousseau/lab/cluster"
	"github.com/trousseau-io/trousseau/lab/keyservices"
)

// threeKeys are keys in three key services: disk, aws and the Vault that vaultKey starts, bao.
func threeKeys(t *testing.T) (disk, aws string) {
	t.Helper()
	for _, service := range keyservices.All() {
		switch service.Name {
		case "local":
			disk = service.Start(t).Entry
		case "awskms":
			aws = service.Start(t).Entry
		}
	}
	return disk, aws
}

// TestTwoOfThreeKeysAreEnough stops one of three key services. Everything is still read, an API server starts and writes
// without it, and what it wrote is read when the service is back and another one is the one that is missing.
func TestTwoOfThreeKeysAreEnough(t *testing.T) {
	t.Parallel()
	vault, bao := vaultKey(t)
	disk, aws := threeKeys(t)
	d := startDaemon(t, daemonConfig{
		key:  bao,
		more: fmt.Sprintf("- {%s}\n- {%s}\npolicies: [{keys: [bao, disk, aws], need: 2, write: {atLeast: 2}}]\n", disk, aws),
	})
	c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, d.kmsV2())})
	createSecret(t, c, "full", plaintext)
	wantSealed(t, c, etcdKey("full"), v2Prefix)
	full := keyID(t, c, "full")

	vault.Stop()
	eventually(t, 20*time.Second, func() error { return c.Ready(t.Context()) })
	createSecret(t, c, "running", plaintext)
	if keyID(t, c, "running") != full {
		t.Error("a key service that is missing changed what a running API server writes under")
	}
	d.Kill()
	d.Start() // it knows from its note what it announced
	c.APIServer.Restart()
	wantSecret(t, c, "full", plaintext)
	createSecret(t, c, "fewer", plaintext)
	wantSealed(t, c, etcdKey("fewer"), v2Prefix)
	if keyID(t, c, "fewer") == full {
		t.Error("what was sealed without a key has the key id of what was sealed with all")
	}

	vault.Start()
	c.APIServer.Restart()
	for _, name := range []string{"full", "running", "fewer"} {
		wantSecret(t, c, name, plaintext)
	}
}

// TestMovingToSeveralKeysLive moves a cluster from one key to two of two by its daemon's configuration alone, and back out of
// a wrong order: a policy that seals before it is listed on another node.
func TestMovingToSeveralKeysLive(t *testing.T) {
	t.Parallel()
	_, bao := vaultKey(t)
	disk, _ := threeKeys(t)
	policies := func(first, second string) daemonConfig {
		return daemonConfig{key: bao, more: fmt.Sprintf("- {%s}\npolicies: [%s, %s]\n", disk, first, second)}
	}
	const one, two = "{keys: [bao]}", "{keys: [bao, disk], need: 2}"
	d := startDaemon(t, daemonConfig{key: bao})
	c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, d.kmsV2())})
	createSecret(t, c, "one", plaintext)
	before := keyID(t, c, "one")

	d.configure(t, policies(one, two))
	time.Sleep(6 * time.Second) // two looks at the file
	createSecret(t, c, "listed", plaintext)
	if keyID(t, c, "listed") != before {
		t.Error("listing a policy second changed the key id")
	}
	d.configure(t, policies(two, one))
	tries := 0
	eventually(t, 90*time.Second, func() error {
		c.Ready(t.Context())
		name := fmt.Sprintf("two-%d", tries)
		tries++
		createSecret(t, c, name, plaintext)
		if keyID(t, c, name) == before {
			return fmt.Errorf("secret %q is written under the old key id", name)
		}
		return nil
	})
	c.APIServer.Restart()
	for _, name := range []string{"one", "listed", "two-0", fmt.Sprintf("two-%d", tries-1)} {
		wantSecret(t, c, name, plaintext)
	}

	d.configure(t, daemonConfig{key: bao}) // as on a node that does not know of the new policy
	time.Sleep(6 * time.Second)
	c.APIServer.Stop()
	cold := c.Cluster.APIServer()
	cold.Ready = c.Alive // its /readyz misses what it cannot read
	testserver.Start(t, cold)
	wantSecret(t, c, "one", plaintext)
	if err := readSecret(t.Context(), c, fmt.Sprintf("two-%d", tries-1), plaintext); err == nil {
		t.Error("a node opened what was sealed under a policy that is not listed there")
	}
	d.configure(t, policies(two, one))
	eventually(t, 30*time.Second, func() error {
		return readSecret(t.Context(), c, fmt.Sprintf("two-%d", tries-1), plaintext)
	})
}

package lab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
	"github.com/trousseau-io/trousseau/lab/cluster"
)

// TestLockdown locks a node, and shows what is left: a running API server reads on until it ends, and one that starts reads
// nothing. After unlock it reads everything.
func TestLockdown(t *testing.T) {
	t.Parallel()
	_, key := vaultKey(t)
	d := startDaemon(t, daemonConfig{key: key, alive: true})
	c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, d.kmsV2())})
	w := &witness{cluster: c}
	w.write(t)

	began := time.Now()
	code, text := trousseau(t, "lockdown", "--config", d.file, "--reason", "the lab")
	t.Logf("the verb took %s", time.Since(began).Round(time.Millisecond))
	if code != 0 || !strings.Contains(text, "vault policy write") {
		t.Fatalf("locking, exit code %d:\n%s", code, text)
	}
	w.readAll(t) // from what this API server has opened before
	unready := eventually(t, 20*time.Second+slack, func() error { return failing(c.Ready(t.Context())) })
	t.Logf("/readyz of the API server failed %s after the lockdown", unready.Round(time.Second))

	c.APIServer.Stop()
	d.Kill()
	d.Start()
	cold := c.Cluster.APIServer()
	cold.Ready = c.Alive
	locked := testserver.Start(t, cold)
	for range 5 {
		if err := readSecret(t.Context(), c, "write-0", plaintext); err == nil {
			t.Fatal("an API server that started while its node was locked has opened a secret")
		} else if !strings.Contains(err.Error(), "not transformable") {
			t.Errorf("reading a secret: %v", err)
		}
		time.Sleep(time.Second)
	}
	if err := w.tryWrite(t); err == nil {
		t.Error("an API server that started while its node was locked has written a secret")
	}

	if code, text := trousseau(t, "unlock", "--config", d.file, "--reason", "the lab is over"); code != 0 {
		t.Fatalf("unlocking, exit code %d:\n%s", code, text)
	}
	back := eventually(t, retryPoll+slack, func() error { return readSecret(t.Context(), c, "write-0", plaintext) })
	t.Logf("it opened a secret %s after unlock", back.Round(time.Second))
	eventually(t, retryPoll+slack, func() error { return w.tryWrite(t) })
	w.readAll(t)
	locked.Stop()
	c.APIServer.Start()
	w.readAll(t)
}

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
	"github.com/trousseau-io/trousseau/lab/cluster"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An API server may write for writeDEKLifetime after the last good status, and it asks for the status once in
// statusPoll; a failed status it asks for again after retryPoll. All three are fixed in its code.
const (
	writeDEKLifetime = 3 * time.Minute
	statusPoll       = time.Minute
	retryPoll        = 10 * time.Second
	slack            = 30 * time.Second // probes and timeouts of the daemon, a busy machine
)

// TestOutageFailClosed stops Vault until writes stop.
func TestOutageFailClosed(t *testing.T) {
	t.Parallel()
	outageStopsWrites(t, "fail-closed", 0)
}

// TestOutageGrace does the same, with a status that stays good for a while.
func TestOutageGrace(t *testing.T) {
	t.Parallel()
	outageStopsWrites(t, "grace, grace: 60s", time.Minute)
}

// outageStopsWrites stops Vault until the API server is not ready, which is when the status is bad, and until writes
// stop, which is writeDEKLifetime after the last good status. That one is at most a poll older than the first bad one.
func outageStopsWrites(t *testing.T, outage string, grace time.Duration) {
	t.Helper()
	vault, key := vaultKey(t)
	d := startDaemon(t, daemonConfig{key: key, outage: outage})
	c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, d.kmsV2())})
	w := &witness{cluster: c}
	w.write(t)

	vault.Stop()
	began := time.Now()
	unready := eventually(t, grace+20*time.Second+slack, func() error { return failing(c.Ready(t.Context())) })
	t.Logf("/readyz failed %s after Vault was stopped", unready.Round(time.Second))
	if unready < grace {
		t.Errorf("/readyz failed %s after Vault was stopped, within the grace period", unready)
	}

	for w.tryWrite(t) == nil {
		w.readAll(t)
		if time.Since(began) > grace+writeDEKLifetime+slack {
			t.Fatalf("writes go on %s after Vault was stopped", time.Since(began))
		}
		time.Sleep(2 * time.Second)
	}
	wrote := time.Since(began)
	t.Logf("writes stopped %s after Vault was stopped", wrote.Round(time.Second))
	if wrote < grace+writeDEKLifetime-statusPoll-5*time.Second {
		t.Errorf("writes stopped %s after Vault was stopped, too early for an expired data key", wrote)
	}
	if err := w.tryWrite(t); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("writing during the outage: %v, want an expired data key", err)
	}
	w.readAll(t)
	if !d.Running() {
		t.Error("the outage has ended the daemon")
	}

	vault.Start()
	back := eventually(t, retryPoll+slack, func() error { return w.tryWrite(t) })
	t.Logf("writes came back %s after Vault did", back.Round(time.Second))
	eventually(t, retryPoll+slack, func() error { return c.Ready(t.Context()) })
	c.APIServer.Restart()
	w.readAll(t)
}

// TestOutageFailOpen keeps Vault stopped for longer than any write could last without a good status. Then it shows the
// price: an API server that restarts during the outage opens nothing, although all was said to be well.
func TestOutageFailOpen(t *testing.T) {
	t.Parallel()
	vault, key := vaultKey(t)
	d := startDaemon(t, daemonConfig{key: key, outage: "fail-open"})
	c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, d.kmsV2())})
	w := &witness{cluster: c}
	w.write(t)

	vault.Stop()
	for began := time.Now(); time.Since(began) < writeDEKLifetime+slack; time.Sleep(2 * time.Second) {
		w.write(t)
		w.readAll(t)
		if err := c.Ready(t.Context()); err != nil {
			t.Fatalf("the API server is not ready: %v", err)
		}
	}

	c.APIServer.Stop()
	cold := c.Cluster.APIServer()
	cold.Ready = c.Alive
	started := time.Now()
	testserver.Start(t, cold)
	t.Logf("an API server that started in the outage was alive after %s", time.Since(started).Round(time.Second))
	if err := readSecret(t.Context(), c, "write-0", plaintext); err == nil {
		t.Error("an API server that started in the outage has opened a secret")
	}
	vault.Start()
	back := eventually(t, retryPoll+slack, func() error { return readSecret(t.Context(), c, "write-0", plaintext) })
	t.Logf("it opened a secret %s after Vault came back", back.Round(time.Second))
	eventually(t, retryPoll+slack, func() error { return w.tryWrite(t) })
	w.readAll(t)
}

// witness writes Secrets and remembers which of them the API server has acknowledged.
type witness struct {
	cluster *cluster.Running
	acked   []string
	tried   int
}

func (w *witness) tryWrite(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	name := fmt.Sprintf("write-%d", w.tried)
	w.tried++
	_, err := secrets(w.cluster).Create(ctx, newSecret(name, plaintext), metav1.CreateOptions{})
	if err == nil {
		w.acked = append(w.acked, name)
	}
	return err
}

func (w *witness) write(t *testing.T) {
	t.Helper()
	if err := w.tryWrite(t); err != nil {
		t.Fatalf("writing: %v", err)
	}
}

func (w *witness) readAll(t *testing.T) {
	t.Helper()
	for _, name := range w.acked {
		wantSecret(t, w.cluster, name, plaintext)
	}
}

// failing returns an error if err is nil.
func failing(err error) error {
	if err == nil {
		return errors.New("it does not fail")
	}
	return nil
}

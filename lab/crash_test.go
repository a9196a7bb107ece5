package lab_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/lab/cluster"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestCrashesOfTheDaemonLoseNoAcknowledgedWrite kills the daemon again and again under load. The key is rotated and
// the API server restarted in between, for otherwise neither would call the daemon for more than its status.
func TestCrashesOfTheDaemonLoseNoAcknowledgedWrite(t *testing.T) {
	t.Parallel()
	vault, key := vaultKey(t)
	d := startDaemon(t, daemonConfig{key: key})
	c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, d.kmsV2())})

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	writers := make([]writer, 4)
	for i := range writers {
		writers[i] = writer{name: fmt.Sprintf("writer-%d", i), possible: make(map[string][]string)}
		running.Go(func() { writers[i].run(ctx, c) })
	}
	for round := range 6 {
		vault.Write("transit/keys/k8s/rotate", nil)
		time.Sleep(2 * time.Second) // the daemon takes the new version over
		d.Kill()
		time.Sleep(500 * time.Millisecond)
		d.Start()
		if round%2 == 1 {
			c.APIServer.Restart()
		}
	}
	stop()
	running.Wait()

	c.APIServer.Restart() // and open everything again through the daemon
	wantWritten(t, c, writers)
}

// wantWritten fails the test unless the API server has all that the writers had acknowledged.
func wantWritten(t *testing.T, c *cluster.Running, writers []writer) {
	t.Helper()
	list, err := secrets(c).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatalf("listing secrets: %v", err)
	}
	stored := make(map[string]string)
	for _, secret := range list.Items {
		stored[secret.Name] = string(secret.Data["value"])
	}
	acked := 0
	for _, w := range writers {
		acked += w.acked
		for name, values := range w.possible {
			if !slices.Contains(values, stored[name]) {
				t.Errorf("secret %q is %q, want one of %q", name, stored[name], values)
			}
		}
	}
	t.Logf("%d acknowledged writes to %d secrets", acked, len(stored))
	if acked < 100 {
		t.Errorf("only %d writes were acknowledged: there was no load", acked)
	}
}

// writer creates Secrets and updates each some times. possible has the values that an acknowledged Secret may have in the
// end: the last one acknowledged, and the one tried after it if nobody knows its outcome.
type writer struct {
	name      string
	elsewhere *cluster.Running // reads what was written, if it is not nil
	possible  map[string][]string
	acked     int
	read      int
	failed    []error
}

func (w *writer) run(ctx context.Context, c *cluster.Running) {
	const updates = 3
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("%s-%d", w.name, n)
		for i := range 1 + updates {
			time.Sleep(10 * time.Millisecond) // leaves the machine to the tests beside it
			value := fmt.Sprintf("%s %d", name, i)
			if err := put(ctx, c, newSecret(name, value), i == 0); err != nil {
				if i > 0 {
					w.possible[name] = append(w.possible[name], value)
				}
				w.fail(ctx, err)
				break
			}
			w.acked++
			w.possible[name] = []string{value}
			if w.elsewhere == nil {
				continue
			}
			if err := readSecret(ctx, w.elsewhere, name, value); err != nil {
				w.fail(ctx, err)
			} else {
				w.read++
			}
		}
	}
}

// fail remembers an error that is not the end of the test's.
func (w *writer) fail(ctx context.Context, err error) {
	if ctx.Err() == nil {
		w.failed = append(w.failed, err)
	}
}

func put(ctx context.Context, c *cluster.Running, secret *corev1.Secret, first bool) (err error) {
	if first {
		_, err = secrets(c).Create(ctx, secret, metav1.CreateOptions{})
	} else {
		_, err = secrets(c).Update(ctx, secret, metav1.UpdateOptions{})
	}
	return err
}

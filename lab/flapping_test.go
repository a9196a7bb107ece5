package lab_test

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/lab/cluster"
)

var flapFor = flag.Duration("flap", 4*time.Minute, "how long a key service comes and goes every 30 s")

// TestFlappingRewritesNothing has one of three key services come and go under a cluster that writes all the time. No write
// fails, the status is never bad, and everything is under one key id: nothing is stale, so nothing has to be rewritten. The
// API server has asked for one seed, when it started.
func TestFlappingRewritesNothing(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{all, atLeast} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			vault, bao := vaultKey(t)
			disk, aws := threeKeys(t)
			d := startDaemon(t, daemonConfig{key: bao, more: fmt.Sprintf("- {%s}\n- {%s}\npolicies: [%s]\n", disk, aws, policies[policy])})
			c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, d.kmsV2())})
			w := &witness{cluster: c}
			w.write(t)
			announced := keyID(t, c, w.acked[0])

			ctx, stop := context.WithCancel(t.Context())
			var watching sync.WaitGroup
			watching.Go(func() { every(ctx, 600*time.Millisecond, t, func() error { return w.tryWrite(t) }) })
			watching.Go(func() { every(ctx, 500*time.Millisecond, t, func() error { return announces(ctx, d, announced) }) })
			watching.Go(func() { every(ctx, 5*time.Second, t, func() error { return c.Ready(ctx) }) })
			downs := 0
			for began := time.Now(); time.Since(began) < *flapFor; downs++ {
				vault.Stop()
				time.Sleep(30 * time.Second)
				vault.Start()
				time.Sleep(30 * time.Second)
			}
			stop()
			watching.Wait()

			for _, name := range w.acked {
				if id := keyID(t, c, name); id != announced {
					t.Errorf("secret %q is under key id %s, want %s", name, id, announced)
				}
			}
			metrics, err := d.metrics()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(metrics, `trousseau_kms_calls_total{api="v2",code="OK",method="Encrypt"} 1`+"\n") {
				t.Errorf("the API server has asked for more than one seed:\n%s", metrics)
			}
			t.Logf("%d writes while a key service was down %d times for 30 s, all under one key id and one seed", len(w.acked), downs)
			c.APIServer.Restart()
			w.readAll(t)
		})
	}
}

// every calls try again and again until ctx ends, and fails the test for each error before that.
func every(ctx context.Context, pause time.Duration, t *testing.T, try func() error) {
	for ctx.Err() == nil {
		if err := try(); err != nil && ctx.Err() == nil {
			t.Errorf("at %s: %v", time.Now().Format(time.TimeOnly), err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// announces returns an error unless the status is good and names the key id.
func announces(ctx context.Context, d *daemon, keyID string) error {
	status, err := d.status(ctx)
	if err == nil && status != keyID {
		err = fmt.Errorf("the status names %s, want %s", status, keyID)
	}
	return err
}

package perf_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/lab/keyservices"
)

// stored counts what the API server stores beside each object.
func stored(b *testing.B, t *table, v *vault) {
	for _, key := range []struct{ name, entry string }{
		{"1 of 1 on Vault", v.key(b, v.Address)}, {"1 of 1 on local", localKey(b, "--key-file", "keyFile")},
	} {
		d := startDaemon(b, key.entry)
		sealed := d.encrypt(b)
		size := len(sealed.Ciphertext) + len(sealed.KeyId)
		for name, value := range sealed.Annotations {
			size += len(name) + len(value)
		}
		met := size <= 180
		t.add("bytes stored per object, "+key.name, fmt.Sprintf("%d (ciphertext %d, key id %d)", size, len(sealed.Ciphertext), len(sealed.KeyId)), "180", &met)
		d.Stop()
	}
}

// memory reads the resident size of the daemon, idle and after many calls.
func memory(b *testing.B, t *table, v *vault) {
	for _, key := range []struct{ name, entry string }{
		{"local", localKey(b, "--key-file", "keyFile")}, {"vault", v.key(b, v.Address)},
	} {
		d := startDaemon(b, key.entry)
		idle := rss(b, d.PID())
		calls := 100_000
		rate(8, calls/2, d.encryptCall(b))
		rate(8, calls/2, d.decryptCall(b))
		after := rss(b, d.PID())
		met := after < 40<<20
		t.add("RSS after 100,000 calls, "+key.name, fmt.Sprintf("%.1f MiB (idle %.1f MiB)", mib(after), mib(idle)), "40 MiB", &met)
		d.Stop()
	}
}

// rss returns the resident size of a process in bytes.
func rss(b *testing.B, pid int) int {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kib int
			fmt.Sscan(rest, &kib)
			return kib << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

func mib(bytes int) float64 { return float64(bytes) / (1 << 20) }

// readiness times the start of the daemon until Status answers.
func readiness(b *testing.B, t *table, v *vault) {
	const limit = 200 * time.Millisecond
	for _, key := range []struct {
		name, entry string
		target      bool
	}{
		{"local, sealed by a key file", localKey(b, "--key-file", "keyFile"), true},
		{"local, sealed by a passphrase (argon2id)", localKey(b, "--passphrase-file", "passphraseFile"), false},
		{"vault", v.key(b, v.Address), false},
	} {
		d := startDaemon(b, key.entry)
		took := d.starts(15)
		median := quantile(took, .5)
		measured := fmt.Sprintf("%.0f ms (slowest %.0f ms), then RSS %.1f MiB", float64(median)/1e6, float64(took[len(took)-1])/1e6, mib(rss(b, d.PID())))
		if met := median < limit; key.target {
			t.add("start to ready, "+key.name, measured, "200 ms", &met)
		} else {
			t.add("start to ready, "+key.name, measured, "", nil)
		}
		d.Stop()
	}
}

// starts starts the daemon again n times and returns how long it took until it was ready, the fastest first.
func (d *daemon) starts(n int) (took []time.Duration) {
	for range n {
		d.Stop()
		start := time.Now()
		d.Start()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took
}

// services starts the daemon with each key service alone: what is not configured must cost nothing, and a client library that
// is must not cost much. The time to be ready has the service's own answers in it.
func services(b *testing.B, t *table, _ *vault) {
	const (
		more  = 5 << 20
		limit = 300 * time.Millisecond
	)
	local := make(map[string]int) // RSS by program
	for _, service := range keyservices.All() {
		key := service.Start(b)
		if _, measured := local[key.Bin]; !measured {
			alone := keyservices.All()[0].Start(b)
			alone.Bin = key.Bin
			d := startWith(b, alone)
			time.Sleep(time.Second)
			local[key.Bin] = rss(b, d.PID())
			d.Stop()
		}
		d := startWith(b, key)
		took := d.starts(7)
		time.Sleep(time.Second)
		idle := rss(b, d.PID())
		met := idle <= local[key.Bin]+more
		t.add("idle RSS, "+service.Name, fmt.Sprintf("%.1f MiB (%+.1f MiB to local in the same program)", mib(idle), mib(idle-local[key.Bin])), "+5 MiB", &met)
		soon := quantile(took, .5) < limit
		t.add("start to ready, "+service.Name, fmt.Sprintf("%.0f ms (slowest %.0f ms)", float64(quantile(took, .5))/1e6, float64(took[len(took)-1])/1e6), "300 ms", &soon)
		d.Stop()
	}
}

package lab_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/kmsclient"
	"github.com/trousseau-io/trousseau/internal/testserver"
	"github.com/trousseau-io/trousseau/lab/memory"
)

// memoryCalls is how many seeds are wrapped and opened before a dump is taken.
const memoryCalls = 5000

// TestDumpHoldsNoSecret takes the memory of the daemon as root, after it has wrapped and opened thousands of seeds. It knows
// the seeds, and finds out with the same keys what else there was: roots, sealing keys and shares.
func TestDumpHoldsNoSecret(t *testing.T) {
	t.Parallel()
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		takeApart(t, memoryCalls, nil, diskKey(t))
	})
	t.Run("local with everything kept", func(t *testing.T) {
		t.Parallel()
		disk := diskKey(t)
		disk.more = fmt.Sprintf("stateDir: %s\ncache: {seeds: 100}\ncoldStart: {sealedBy: disk, seeds: 100}\n", t.TempDir())
		takeApart(t, 2000, nil, disk)
	})
	t.Run("two of two", func(t *testing.T) {
		t.Parallel()
		takeApart(t, memoryCalls, []string{baoShare}, baoKey(t, testserver.WithTLS()), diskKey(t))
	})
	t.Run("vault", func(t *testing.T) {
		t.Parallel()
		takeApart(t, memoryCalls, []string{baoShare, "root"}, baoKey(t, testserver.WithTLS())) // they are the same
	})
	t.Run("as other plugins were measured", func(t *testing.T) {
		t.Parallel()
		takeApart(t, 2000, []string{baoShare, "root"}, baoKey(t))
	})
}

// takeApart has a daemon wrap and open seeds, dumps it, and fails the test for every secret in the dumps, except of the kinds
// that may be there: what passes through a key service's client library. Those are counted in the log.
func takeApart(t *testing.T, calls int, may []string, keys ...dumpKey) {
	t.Helper()
	lineage := newLineage()
	d := startDaemon(t, daemonConfig{key: keys[0].entry, more: policyOf(keys) + keys[0].more, lineage: lineage, probe: "10m", outage: "grace"})
	work := exercise(t, d, calls)
	awaitCollections(t, d, work.clients[0])
	if os.Geteuid() != 0 {
		testserver.Missing(t, "root's rights", "run as root: nobody else may read the daemon's memory")
	}
	regions, core := memory.Read(t, d.PID()), memory.Core(t, d.PID())

	known := knowAll(t, lineage, keys, work)
	var search memory.Search
	for kind, secrets := range known.kinds {
		search.Add(kind, secrets...)
	}
	const control = "key id, which is not secret"
	search.Add(control, []byte(work.sealed[0].KeyID))
	for name, dump := range map[string][]memory.Region{"/proc/PID/mem": regions, "gcore": {core}} {
		found, where := search.In(dump...)
		if found[control]["raw"] != 1 {
			t.Errorf("%s does not hold what the daemon announces: it is no dump of it", name)
		}
		delete(found, control)
		t.Logf("%s after %d wraps and opens: %v", name, calls, found)
		for kind, forms := range found {
			for form, n := range forms {
				if !slices.Contains(may, kind) {
					t.Errorf("%s holds %d of %d of kind %s as %s, the first at %s", name, n, len(known.kinds[kind]), kind, form, where[kind+" "+form])
				}
			}
		}
	}
	candidates := memory.Keys(regions...)
	for kind, open := range known.attempts {
		n := memory.Opens(candidates, open)
		t.Logf("%d times 32 bytes of the dump tried as %s: %d open", len(candidates), kind, n)
		if n > 0 && !slices.Contains(may, kind) {
			t.Errorf("the dump opens what is in etcd, as %s", kind)
		}
	}
}

// work is what a daemon was asked to do.
type work struct {
	clients []*kmsclient.Client
	seeds   [][]byte
	sealed  []kmsclient.Sealed
}

// exercise wraps that many seeds and opens them, over several connections, of which the last speaks v1beta1. Then each wraps
// one more, so that wrapping does not come long before everything else.
func exercise(t *testing.T, d *daemon, calls int) work {
	t.Helper()
	const connections = 4
	w := work{seeds: make([][]byte, calls+connections), sealed: make([]kmsclient.Sealed, calls+connections)}
	for i := range connections {
		client, err := kmsclient.Dial(kmsclient.Options{Socket: d.socket, Timeout: 30 * time.Second, V1beta1: i == connections-1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		w.clients = append(w.clients, client)
	}
	each := func(from, to int, call func(client *kmsclient.Client, i int) error) {
		t.Helper()
		sideBySide(t, connections, func(c int) error {
			for i := from + c; i < to; i += connections {
				if err := call(w.clients[c], i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	wrap := func(client *kmsclient.Client, i int) (err error) {
		w.seeds[i] = make([]byte, 32)
		rand.Read(w.seeds[i])
		w.sealed[i], err = client.Encrypt(t.Context(), "memory", w.seeds[i])
		return err
	}
	open := func(client *kmsclient.Client, i int) error {
		seed, err := client.Decrypt(t.Context(), "memory", w.sealed[i])
		if err == nil && !bytes.Equal(seed, w.seeds[i]) {
			return fmt.Errorf("seed %d came back as another one", i)
		}
		return err
	}
	each(0, calls, wrap)
	each(0, calls, open)
	each(calls, calls+connections, wrap)
	return w
}

// sideBySide calls f that often at once, with 0 and up.
func sideBySide(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// awaitCollections returns when the daemon has collected its garbage. Calls without a secret make it do so sooner than in
// the two minutes after which it would by itself. The first collection may have begun before the last secret was given
// up, the second frees it, and the third begins when that is done.
func awaitCollections(t *testing.T, d *daemon, client *kmsclient.Client) {
	t.Helper()
	until := collections(t, d) + 3
	eventually(t, 20*time.Second, func() error {
		for range 1000 {
			if _, err := client.Status(t.Context()); err != nil {
				return err
			}
		}
		if n := collections(t, d); n < until {
			return fmt.Errorf("%d more collections of garbage", until-n)
		}
		return nil
	})
}

var collectionsLine = regexp.MustCompile(`(?m)^go_gc_duration_seconds_count (\d+)$`)

// collections returns how often the daemon has collected its garbage.
func collections(t *testing.T, d *daemon) int {
	t.Helper()
	text, err := d.metrics()
	if err != nil {
		t.Fatal(err)
	}
	match := collectionsLine.FindStringSubmatch(text)
	if match == nil {
		t.Fatalf("no %s in the metrics", collectionsLine)
	}
	n, _ := strconv.Atoi(match[1])
	return n
}

// TestDumpOfAPlainProcess shows that what TestDumpHoldsNoSecret does finds secrets, in every form, in a process that keeps
// them.
func TestDumpOfAPlainProcess(t *testing.T) {
	if os.Getenv("TROUSSEAU_LAB_KEEP") != "" {
		keep()
		return
	}
	t.Parallel()
	const count = 300
	secrets := make([][]byte, count)
	for i := range secrets {
		secrets[i] = make([]byte, 32)
		rand.Read(secrets[i])
	}
	var search memory.Search
	search.Add("seed", secrets...)
	child := startKeeper(t, secrets)
	regions := memory.Read(t, child)
	for name, dump := range map[string][]memory.Region{"/proc/PID/mem": regions, "gcore": {memory.Core(t, child)}} {
		found, _ := search.In(dump...)
		for _, form := range []string{"raw", "base64", "hex"} {
			if n := found["seed"][form]; n != count {
				t.Errorf("%s: %d of %d secrets found as %s", name, n, count, form)
			}
		}
	}
	keys := memory.Keys(regions...)
	for i, secret := range secrets {
		if memory.Opens(keys, func(key []byte) bool { return bytes.Equal(key, secret) }) != 1 {
			t.Errorf("secret %d is not among what is tried", i)
		}
	}
}

// startKeeper starts this program again as one that keeps the secrets it reads, and returns its process id.
func startKeeper(t *testing.T, secrets [][]byte) int {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(program, "-test.run=^TestDumpOfAPlainProcess$")
	child.Env = append(os.Environ(), "TROUSSEAU_LAB_KEEP=1")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		child.Wait()
	})
	for _, secret := range secrets {
		fmt.Fprintf(in, "%x\n", secret)
	}
	fmt.Fprintln(in)
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return child.Process.Pid
}

var kept []any

// keep reads secrets and keeps them, raw and in base64, with more or less before them.
func keep() {
	for {
		var line string
		if _, err := fmt.Scanln(&line); err != nil {
			break
		}
		secret, _ := hex.DecodeString(line)
		before := strings.Repeat("x", len(kept)%3)
		kept = append(kept, secret, base64.StdEncoding.EncodeToString(append([]byte(before), secret...)), line)
	}
	fmt.Println("kept")
	io.Copy(io.Discard, os.Stdin)
}

//go:build !race

package keystore_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keystore"
)

// Argon2id takes 64 MiB; a daemon of less than 40 MiB must have it back before it serves. (The race
// detector's own memory would count.)
func TestOpeningGivesMemoryBack(t *testing.T) {
	v := vectors(t)["passphrase"]
	path := file(t, v.content(t))
	if out := os.Getenv("TROUSSEAU_TEST_RSS"); out != "" {
		store, err := keystore.Open(out, v.sealer())
		if err != nil {
			t.Fatal(err)
		}
		defer store.Release()
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		var kib, peak int
		for line := range strings.Lines(string(status)) {
			_, _ = fmt.Sscanf(line, "VmRSS: %d", &kib)
			_, _ = fmt.Sscanf(line, "VmHWM: %d", &peak)
		}
		t.Logf("resident after opening: %d KiB, at most %d KiB", kib, peak)
		if peak < 64<<10 {
			t.Error("argon2id did not take its memory: this test tests nothing")
		}
		if limit := 40 << 10; kib > limit {
			t.Errorf("%d KiB are resident, more than %d", kib, limit)
		}
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestOpeningGivesMemoryBack$", "-test.v")
	child.Env = append(os.Environ(), "TROUSSEAU_TEST_RSS="+path)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("%s", out)
}

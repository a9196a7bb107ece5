package secretmem_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trousseau-io/trousseau/internal/secretmem"
	"github.com/trousseau-io/trousseau/internal/secretmem/secretmemtest"
)

// fill puts random bytes into the buffer and returns their complement, which can be searched for without being found.
func fill(t *testing.T, buffer *secretmem.Buffer) (complement []byte) {
	t.Helper()
	err := buffer.Use(func(secret []byte) error {
		rand.Read(secret)
		complement = secretmemtest.Complement(secret)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return complement
}

func TestHiddenPagesAreInNoDump(t *testing.T) {
	buffer, err := secretmem.New(32)
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Release()
	if buffer.Protection() != secretmem.Hidden {
		t.Skipf("this kernel has no memfd_secret, buffers are %s: see the other tests", buffer.Protection())
	}
	if secretmemtest.Found(t, os.Getpid(), fill(t, buffer)) {
		t.Error("the process's memory holds the secret")
	}
}

// It also shows that the search finds what is there.
func TestPrivatePagesAreZeroedOnRelease(t *testing.T) {
	buffer, err := secretmem.NewPrivate(32)
	if err != nil {
		t.Fatal(err)
	}
	complement := fill(t, buffer)
	if !secretmemtest.Found(t, os.Getpid(), complement) {
		t.Fatal("the search does not find a secret in readable memory")
	}
	buffer.Release()
	if secretmemtest.Found(t, os.Getpid(), complement) {
		t.Error("the process's memory holds the secret after Release")
	}
}

func TestPrivatePagesAreLockedAndExcluded(t *testing.T) {
	buffer, err := secretmem.NewPrivate(32)
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Release()
	flags := vmFlags(t, buffer)
	if !strings.Contains(flags, " dd ") {
		t.Errorf("flags %q: core dumps hold the pages", flags)
	}
	switch locked := strings.Contains(flags, " lo "); {
	case buffer.Protection() == secretmem.Locked && !locked:
		t.Errorf("flags %q: the pages are not locked", flags)
	case buffer.Protection() == secretmem.Excluded && buffer.Protection().Advice() == "":
		t.Error("pages that can be swapped and no advice")
	case buffer.Protection() < secretmem.Excluded:
		t.Errorf("protection: %s", buffer.Protection())
	}
}

// vmFlags returns the kernel's flags of the buffer's mapping; see proc_pid_smaps(5).
func vmFlags(t *testing.T, buffer *secretmem.Buffer) string {
	t.Helper()
	var address string
	_ = buffer.Use(func(secret []byte) error {
		address = fmt.Sprintf("%p", secret)[2:]
		return nil
	})
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	var within bool
	for line := range strings.Lines(string(smaps)) {
		var from, to, at uint64
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			_, _ = fmt.Sscanf(address, "%x", &at)
			within = from <= at && at < to
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && within {
			return " " + strings.TrimSpace(flags) + " "
		}
	}
	t.Fatal("no mapping of the buffer")
	return ""
}

// A container may allow no locked memory at all; root is not bound by the limit, so the test drops to it where it can.
func TestWithoutLockedMemory(t *testing.T) {
	if os.Getenv("TROUSSEAU_TEST_MEMLOCK") == "" {
		runUnprivileged(t, "TestWithoutLockedMemory", "TROUSSEAU_TEST_MEMLOCK=0")
		return
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
		t.Fatal(err)
	}
	buffer, err := secretmem.New(32)
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Release()
	if buffer.Protection() != secretmem.Excluded || buffer.Protection().Advice() == "" {
		t.Errorf("protection %q, advice %q", buffer.Protection(), buffer.Protection().Advice())
	}
}

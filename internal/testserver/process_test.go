package testserver_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

// TestNoServerOutlivesAKilledTest runs a test of its own, below, in another process and kills that process.
func TestNoServerOutlivesAKilledTest(t *testing.T) {
	t.Parallel()
	other := exec.Command(os.Args[0], "-test.run=^TestStartsAServerAndHangs$", "-test.v")
	other.Env = append(os.Environ(), "TESTSERVER_HANG=1")
	output, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	pid := 0
	for lines := bufio.NewScanner(output); pid == 0 && lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), "server "); found {
			pid, _ = strconv.Atoi(text)
		}
	}
	if pid == 0 || syscall.Kill(pid, 0) != nil {
		t.Fatalf("the other test has not started a server: pid %d", pid)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); running(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the server, pid %d, still runs", pid)
		}
	}
}

func TestStartsAServerAndHangs(t *testing.T) {
	if os.Getenv("TESTSERVER_HANG") == "" {
		t.Skip("it is part of another test")
	}
	server := testserver.Start(t, testserver.Command{Name: "sleep", Path: "/bin/sleep", Args: []string{"60"}})
	fmt.Printf("server %d\n", server.PID())
	time.Sleep(time.Minute)
}

// running reports whether a process exists and is more than an entry that nobody has waited for.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

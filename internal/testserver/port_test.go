package testserver_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

// TestNoPortIsGivenTwice takes so many ports, half of them in another process, that chance alone would repeat dozens.
func TestNoPortIsGivenTwice(t *testing.T) {
	t.Parallel()
	other := exec.Command(os.Args[0], "-test.run=^TestPrintsPorts$")
	other.Env = append(os.Environ(), "TESTSERVER_PORTS=1")
	input, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer input.Close() // ends it
	seen := map[int]bool{}
	for range ports {
		var port int
		if _, err := fmt.Fscanf(output, "port %d\n", &port); err != nil {
			t.Fatalf("reading the other process's ports: %v", err)
		}
		seen[port] = true
	}
	for range ports {
		port, err := testserver.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		seen[port] = true
	}
}

const ports = 800

func TestPrintsPorts(t *testing.T) {
	if os.Getenv("TESTSERVER_PORTS") == "" {
		t.Skip("it is part of another test")
	}
	var list strings.Builder
	for range ports {
		port, err := testserver.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&list, "port %d\n", port)
	}
	fmt.Print(list.String())
	_, _ = os.Stdin.Read(make([]byte, 1)) // the ports are its own until it ends
}

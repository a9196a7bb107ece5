// Package secretmemtest looks for secrets in the memory of a process, as who dumps it would. It is imported by tests alone.
package secretmemtest

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Complement returns the bytes with every bit flipped: the form in which a test can hold what it searches for without
// the search finding the test.
func Complement(secret []byte) []byte {
	complement := make([]byte, len(secret))
	for i, b := range secret {
		complement[i] = ^b
	}
	return complement
}

// Found reads all memory of the process that a debugger can read and reports whether the secret with the given
// complement is in it. The caller must be allowed to trace the process.
func Found(t testing.TB, pid int, complement []byte) bool {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	chunk := make([]byte, 1<<20)
	defer clear(chunk)
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var mode string
		if strings.HasSuffix(lines.Text(), "[vsyscall]") { // above what a file offset can name
			continue
		}
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(mode, "r") || to-from > 1<<30 { // the race detector maps terabytes of shadow
			continue
		}
		for at := from; at < to; at += int64(len(chunk) - len(complement)) { // chunks overlap: no secret falls between two
			n, err := mem.ReadAt(chunk[:min(int64(len(chunk)), to-at)], at)
			if contains(chunk[:n], complement) {
				return true
			}
			if err != nil {
				break // hidden or special pages
			}
		}
	}
	return false
}

func contains(memory, complement []byte) bool {
	for {
		i := bytes.IndexByte(memory, ^complement[0])
		if i < 0 || i+len(complement) > len(memory) {
			return false
		}
		n := 1
		for n < len(complement) && memory[i+n] == ^complement[n] {
			n++
		}
		if n == len(complement) {
			return true
		}
		memory = memory[i+1:]
	}
}

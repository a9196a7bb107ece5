// Package memory takes the memory of a process, as root can, and looks for secrets in it: for those that a test knows, and
// for anything at all that opens what the test has.
//
// It reads a process that it does not change: nothing is injected, and pages that the kernel hides stay hidden. It is for
// Linux, and imported by tests alone.
package memory

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

// Region is memory that lies in one piece, or a file that holds a whole dump.
type Region struct {
	Name     string
	Writable bool
	Bytes    []byte
}

// Read returns everything that /proc/PID/mem gives. The caller must be allowed to trace the process.
func Read(t testing.TB, pid int) []Region {
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
	var regions []Region
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var mode string
		line := lines.Text()
		if strings.HasSuffix(line, "[vsyscall]") { // above what a file offset can name
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatal(err)
		}
		if mode[0] != 'r' {
			continue
		}
		content := make([]byte, to-from)
		n, _ := mem.ReadAt(content, from) // ends early where pages are hidden
		regions = append(regions, Region{line, mode[1] == 'w', content[:n]})
	}
	return regions
}

// Core returns the file that gcore makes of the process, without the pages that the process asked to leave out.
func Core(t testing.TB, pid int) Region {
	t.Helper()
	gcore, err := exec.LookPath("gcore")
	if err != nil {
		testserver.Missing(t, "gcore", "apt-get install gdb")
	}
	prefix := filepath.Join(t.TempDir(), "core")
	path := fmt.Sprintf("%s.%d", prefix, pid)
	if out, err := exec.Command(gcore, "-o", prefix, fmt.Sprint(pid)).CombinedOutput(); err != nil {
		t.Fatalf("gcore: %v\n%s", err, out)
	}
	defer os.Remove(path)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	// Mapped, because most of it are holes: address space that the process has reserved.
	content, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(content) })
	return Region{Name: "gcore", Bytes: content}
}

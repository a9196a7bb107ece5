//go:build cgo

package pkcs11_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11/pkcs11test"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// faults is a module that forwards to SoftHSM and breaks to order: see testdata/faults.c.
type faults struct {
	t      testing.TB
	module string
	dir    string // of the orders
}

func buildFaults(t testing.TB) *faults {
	t.Helper()
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		testserver.Missing(t, "gcc", "run: apt-get install gcc libc6-dev")
	}
	dir := t.TempDir()
	f := &faults{t: t, module: filepath.Join(dir, "faults.so"), dir: dir}
	out, err := exec.Command(compiler, "-Wall", "-Werror", "-shared", "-fPIC", fmt.Sprintf("-DREAL=%q", pkcs11test.Module),
		fmt.Sprintf("-DORDERS=%q", dir), "-o", f.module, "testdata/faults.c", "-ldl").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return f
}

// order breaks something, and returns what repairs it.
func (f *faults) order(name string, code uint) (repair func()) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path+".new", fmt.Appendf(nil, "%x", code), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		f.t.Fatal(err)
	}
	return func() { os.Remove(path) }
}

// calls returns how often a function was called.
func (f *faults) calls(name string) int {
	f.t.Helper()
	log, err := os.ReadFile(filepath.Join(f.dir, "calls"))
	if err != nil {
		f.t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(log)) {
		if line == name+"\n" {
			n++
		}
	}
	return n
}

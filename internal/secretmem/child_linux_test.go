package secretmem_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// runUnprivileged runs one test again in a child without root's rights.
func runUnprivileged(t *testing.T, test string, environ ...string) {
	t.Helper()
	self, err := os.Open("/proc/self/exe") // the child may not be able to reach the test program by its path
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	child := exec.Command("/proc/self/fd/3", "-test.run=^"+test+"$", "-test.v")
	child.ExtraFiles = []*os.File{self}
	child.Env = append(os.Environ(), environ...)
	child.Dir = "/"
	if os.Getuid() == 0 {
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

package lockdown_test

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody makes the rest of the test one of a user without rights: on its own thread, which ends with it.
func asNobody(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 {
		t.Fatal(errno)
	}
}

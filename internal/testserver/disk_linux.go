package testserver

import (
	"testing"

	"golang.org/x/sys/unix"
)

// SmallDisk mounts a file system in memory on a folder, for as long as the test lasts. options are those of tmpfs:
// "size=64k". Where mounting is not allowed the test ends as Missing says.
func SmallDisk(t testing.TB, dir, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		Missing(t, "the right to mount a file system ("+err.Error()+")", "run the tests as root, where mounting is allowed")
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

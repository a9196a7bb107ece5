package keystore_test

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trousseau-io/trousseau/internal/keystore"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// A child process may write no more than 100 bytes to a file: it fails in the middle of the keystore, as on a full disk.
func TestFullDiskLeavesTheOldFile(t *testing.T) {
	if path := os.Getenv("TROUSSEAU_TEST_FULL_DISK"); path != "" {
		signal.Ignore(syscall.SIGXFSZ)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 100, Max: 100}); err != nil {
			t.Fatal(err)
		}
		_, rotating := keystore.Rotate(path, key(1), 0)
		_, creating := keystore.Create(path+".other", key(1))
		for _, err := range []error{rotating, creating} {
			if !errors.Is(err, syscall.EFBIG) {
				t.Errorf("error %v, want EFBIG", err)
			}
		}
		return
	}
	path := created(t, key(1))
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestFullDiskLeavesTheOldFile$")
	child.Env = append(os.Environ(), "TROUSSEAU_TEST_FULL_DISK="+path)
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(before) != string(after) {
		t.Errorf("the keystore changed, error %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestRotateKeepsTheOwner(t *testing.T) {
	if os.Getuid() != 0 {
		testserver.Missing(t, "root's rights", "run the tests as root: nobody else can give files to others")
	}
	path := created(t, key(1))
	if err := os.Chown(path, 65534, 65533); err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Rotate(path, key(1), 0); err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil || stat.Uid != 65534 || stat.Gid != 65533 || stat.Mode&0o777 != 0o600 {
		t.Errorf("owner %d, group %d, mode %o, %v", stat.Uid, stat.Gid, stat.Mode, err)
	}
}

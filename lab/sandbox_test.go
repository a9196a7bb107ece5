package lab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

// sandbox is a mount namespace in which a daemon finds no name server, other hosts and a file system of 64 KiB. It ends with
// the test.
type sandbox struct {
	*testserver.Process
	hosts string // what stands for /etc/hosts, empty at first
	state string // the folder on which the file system is mounted
}

func startSandbox(t *testing.T) *sandbox {
	t.Helper()
	if os.Geteuid() != 0 {
		testserver.Missing(t, "the right to mount", "run the lab as root")
	}
	dir := shortDir(t)
	s := &sandbox{hosts: writeFile(t, dir, "hosts", ""), state: filepath.Join(dir, "state")}
	if err := os.Mkdir(s.state, 0o700); err != nil {
		t.Fatal(err)
	}
	servers, mounted := writeFile(t, dir, "resolv.conf", "nameserver 127.0.0.1\n"), filepath.Join(dir, "mounted")
	const script = `mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf &&
		mount -t tmpfs -o size=64k tmpfs "$3" && : >"$4" && exec sleep infinity`
	s.Process = testserver.Start(t, testserver.Command{
		Name: "sandbox", Path: "/usr/bin/unshare",
		Args:  []string{"--mount", "sh", "-c", script, "sh", s.hosts, servers, s.state, mounted},
		Ready: func(ctx context.Context) error { _, err := os.Stat(mounted); return err },
	})
	return s
}

// inside is the command that runs a program there.
func (s *sandbox) inside() []string {
	return []string{"/usr/bin/nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", s.PID())}
}

// resolve makes name an address of this machine, or no name any more if it is "". Names are kept in memory for up to 5 s.
func (s *sandbox) resolve(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(s.hosts, []byte("127.0.0.1 localhost "+name+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fill leaves no byte free where the state is, and returns what repairs that.
func (s *sandbox) fill(t *testing.T) (repair func()) {
	t.Helper()
	path := filepath.Join(fmt.Sprintf("/proc/%d/root", s.PID()), s.state, "fill")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v, want no space left", err)
	}
	return func() { os.Remove(path) }
}

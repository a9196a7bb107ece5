package testserver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
)

// FreePort returns a port of 127.0.0.1 that nothing listens on and that no other call returns, in this process or in
// another, for as long as this process lives: tests that run side by side choose ports long before their servers listen.
// It lies below the range from which the kernel serves outgoing connections: one of those could take the port of a server
// that is down at the moment.
func FreePort() (int, error) {
	const first, last = 10000, 32767
	var err error
	for range 100 {
		port := first + rand.IntN(last-first+1)
		if err = claim(port); err != nil {
			continue
		}
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("finding a free port: %w", err)
}

// claim takes a name in the kernel's abstract namespace that stands for the port. The descriptor is bare, and closed by
// nothing but the end of the process; its children do not inherit it.
func claim(port int) error {
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	name := &syscall.SockaddrUnix{Name: fmt.Sprintf("@trousseau-test-port-%d", port)}
	if err := syscall.Bind(socket, name); err != nil {
		_ = syscall.Close(socket)
		return fmt.Errorf("claiming port %d: %w", port, err)
	}
	return nil
}

// FreeAddress returns 127.0.0.1 with a free port.
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

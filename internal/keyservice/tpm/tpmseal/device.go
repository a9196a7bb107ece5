package tpmseal

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// Device says where a TPM is: the absolute path of a device file or of a Unix socket, or the host:port of a simulator on
// this host.
type Device string

// DefaultDevice is the first TPM of the node, shared with others by the kernel's resource manager.
const DefaultDevice Device = "/dev/tpmrm0"

// Validate checks the name alone. The error starts with what is wrong and ends with the fix.
func (d Device) Validate() error {
	if filepath.IsAbs(string(d)) && !strings.ContainsRune(string(d), 0) {
		return nil
	}
	host, port, err := net.SplitHostPort(string(d))
	if ip := net.ParseIP(host); err != nil || port == "" || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%q is neither an absolute path nor a port of this host: write %s, or 127.0.0.1:PORT for a simulator",
			d, DefaultDevice)
	}
	return nil
}

// Simulated reports whether a program plays the TPM, as far as the name tells: a socket.
func (d Device) Simulated() bool {
	info, err := os.Stat(string(d))
	return !filepath.IsAbs(string(d)) || err == nil && info.Mode()&fs.ModeSocket != 0
}

// dial opens the TPM. A device file is opened for blocking calls: while one does not block, the kernel answers a read that
// comes too early with nothing, which looks like the end of the file.
func (d Device) dial(ctx context.Context) (io.ReadWriteCloser, error) {
	network := "tcp"
	if filepath.IsAbs(string(d)) {
		info, err := os.Stat(string(d))
		if err != nil {
			return nil, err
		}
		if info.Mode()&fs.ModeSocket == 0 {
			return d.open(info)
		}
		network = "unix"
	}
	return new(net.Dialer).DialContext(ctx, network, string(d))
}

func (d Device) open(info fs.FileInfo) (io.ReadWriteCloser, error) {
	if info.Mode()&fs.ModeCharDevice == 0 {
		return nil, fmt.Errorf("%w: %q is neither a character device nor a socket (%s)", errNoDevice, d, info.Mode())
	}
	fd, err := syscall.Open(string(d), syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: string(d), Err: err}
	}
	return os.NewFile(uintptr(fd), string(d)), nil
}

// use calls f with the TPM, which it opens and closes. It returns at once when the context ends. f goes on then, to leave
// no objects in a TPM that has no resource manager, until the TPM has answered; what it returns is wiped.
func use[T any](ctx context.Context, d Device, f func(tpm) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.value, r.err = useNow(ctx, d, f)
		done <- r
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		go func() {
			if secret, ok := any((<-done).value).(credential.Secret); ok {
				secret.Wipe()
			}
		}()
		return none, ctx.Err()
	}
}

func useNow[T any](ctx context.Context, d Device, f func(tpm) (T, error)) (T, error) {
	conn, err := d.dial(ctx)
	if err != nil {
		var none T
		return none, fmt.Errorf("%w: %w", errReach, err)
	}
	defer conn.Close()
	return f(tpm{wire{conn}})
}

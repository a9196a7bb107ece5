package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trousseau-io/trousseau/internal/socket"
)

// ErrOther says that who listens on the socket is not the daemon, and was left alone.
var ErrOther = errors.New("another program listens there")

// Kill ends the process that listens on a socket, which may hang, and returns its pid once it has ended: the kernel takes the
// connection and says who listens. A process of another name than program is left alone.
func Kill(ctx context.Context, path, program string) (pid int, err error) {
	pid, err = kill(ctx, path, program)
	if err != nil {
		return pid, fmt.Errorf("killing who listens on %s: %w", path, err)
	}
	return pid, nil
}

func kill(ctx context.Context, path, program string) (pid int, err error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	peer, err := socket.PeerOf(c.(*net.UnixConn))
	if err != nil {
		return 0, err
	}
	pid = int(peer.PID)
	// The descriptor means one process for ever. That it still runs after its name was read is what makes the name its own,
	// and not that of a later process with the same pid.
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return pid, fmt.Errorf("opening process %d: %w", pid, err)
	}
	defer unix.Close(process)
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return pid, err
	}
	if name := strings.TrimSpace(string(name)); name != program {
		return pid, fmt.Errorf("%w: process %d is %q, not %q", ErrOther, pid, name, program)
	}
	if err := unix.PidfdSendSignal(process, unix.SIGKILL, nil, 0); err != nil {
		return pid, fmt.Errorf("sending SIGKILL to process %d: %w", pid, err)
	}
	return pid, ended(ctx, process)
}

// ended waits until a process has ended.
func ended(ctx context.Context, process int) error {
	for ctx.Err() == nil {
		ready := []unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, int((100 * time.Millisecond).Milliseconds()))
		if n == 1 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return fmt.Errorf("it still runs after SIGKILL: %w", ctx.Err())
}

package socket_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/trousseau-io/trousseau/internal/socket"
)

// The test binary started again with this variable does one of the things below with the socket it names, and ends
// when its standard input does.
const childDoes = "TROUSSEAU_TEST_CHILD"

func TestMain(m *testing.M) {
	does, path, isChild := strings.Cut(os.Getenv(childDoes), ":")
	if !isChild {
		os.Exit(m.Run())
	}
	switch does {
	case "dial":
		childDials(path)
	case "listen":
		childListens(path)
	}
	io.Copy(io.Discard, os.Stdin)
}

// childDials connects and says "open" or "closed", as the other side decides.
func childDials(path string) {
	c, err := net.Dial("unix", path)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		fmt.Println("closed")
		return
	}
	fmt.Println("open")
}

// childListens listens with what systemd has passed, if anything, says so, and greets each peer that connects.
func childListens(path string) {
	// systemd puts the pid in after the fork, which exec.Cmd cannot.
	if os.Getenv("LISTEN_PID") == "own" {
		os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
	}
	l, err := socket.Listen(socket.Config{Path: path}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if refusal, ok := errors.AsType[*socket.Error](err); ok {
		fmt.Printf("%v: hint: %s\n", err, refusal.Hint)
		return
	}
	left := 0
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_") {
			left++
		}
	}
	fmt.Printf("listening, %d variables left\n", left)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("!"))
		}
	}()
	io.Copy(io.Discard, os.Stdin)
	l.Close()
}

// child is the test binary, started again.
type child struct {
	said string // its first line
	cmd  *exec.Cmd
	end  io.Closer
}

// start starts a child, as adjust would have it, and waits for its first line.
func start(t *testing.T, does, path string, adjust func(*exec.Cmd)) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe") // by its name another user could not get at it
	// The race detector would have each child sleep for a second at its end.
	cmd.Env = append(os.Environ(), childDoes+"="+does+":"+path, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	adjust(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, end: in}
	t.Cleanup(c.stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child said %q: %v", line, err)
	}
	c.said = strings.TrimSpace(line)
	return c
}

func (c *child) stop() {
	c.end.Close()
	c.cmd.Wait()
}

// asUser makes a child run as that user, and in no other group than gid.
func asUser(uid, gid uint32) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
}

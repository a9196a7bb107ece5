package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

const (
	readyTimeout = 90 * time.Second // a cold machine that builds beside it is slow
	stopTimeout  = 20 * time.Second
	logTail      = 32 << 10 // bytes of a log that a failed test shows
)

// Command describes a server.
type Command struct {
	Name string   // names the log file
	Path string   // the program
	Args []string // without the program's own name
	Env  []string // added to the environment of the test

	// Ready is asked until it returns nil. A nil Ready means ready once started.
	Ready func(ctx context.Context) error
}

// Process is a server that runs as a child of the test. Its methods fail the test rather than return errors, so they
// are for the test's own goroutine.
type Process struct {
	t       testing.TB
	command Command
	log     string // path

	running *exec.Cmd
	exited  chan struct{} // closed when running has ended and been waited for
}

// Start starts the server and returns when it is ready.
func Start(t testing.TB, command Command) *Process {
	t.Helper()
	p := &Process{t: t, command: command, log: filepath.Join(t.TempDir(), command.Name+".log")}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", command.Name, p.tail())
		}
	})
	p.Start()
	return p
}

// Start starts the server again after Stop, Kill or its own end, and returns when it is ready.
func (p *Process) Start() {
	p.t.Helper()
	if p.Running() {
		p.t.Fatalf("starting %s: it runs already", p.command.Name)
	}
	if err := p.spawn(); err != nil {
		p.t.Fatalf("starting %s: %v", p.command.Name, err)
	}
	if err := p.awaitReady(); err != nil {
		p.t.Fatalf("starting %s: %v", p.command.Name, err)
	}
}

// spawn starts the process on a thread that lives until the process has ended: the kernel sends the death signal when
// the parent's thread goes, not when the parent does.
func (p *Process) spawn() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.command.Path, p.command.Args...)
	cmd.Env = append(os.Environ(), p.command.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}

	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in ProcessState
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.running, p.exited = cmd, exited
	return nil
}

func (p *Process) awaitReady() error {
	if p.command.Ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), readyTimeout)
	defer cancel()
	for {
		err := p.command.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it ended before it was ready: %v", p.running.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("waiting until it is ready: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Running reports whether the process exists.
func (p *Process) Running() bool {
	if p.running == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// PID returns the process id of the running, or last, process.
func (p *Process) PID() int { return p.running.Process.Pid }

// Signal sends a signal, SIGHUP or SIGSTOP for instance, and waits for nothing.
func (p *Process) Signal(signal os.Signal) {
	p.t.Helper()
	if err := p.running.Process.Signal(signal); err != nil {
		p.t.Fatalf("signalling %s: %v", p.command.Name, err)
	}
}

// Stop ends the server as an administrator would, and fails the test if it does not end. Stopping what does not run
// is not an error.
func (p *Process) Stop() {
	p.t.Helper()
	if !p.Running() {
		return
	}
	if err := p.running.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("stopping %s: %v", p.command.Name, err)
	}
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		p.Kill()
		p.t.Errorf("stopping %s: it still ran %s after SIGTERM", p.command.Name, stopTimeout)
	}
}

// Kill ends the server at once, as a crash would.
func (p *Process) Kill() {
	p.t.Helper()
	if !p.Running() {
		return
	}
	if err := p.running.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("killing %s: %v", p.command.Name, err)
	}
	<-p.exited
}

// Restart stops the server and starts it again with the same arguments.
func (p *Process) Restart() {
	p.t.Helper()
	p.Stop()
	p.Start()
}

// Log returns everything that the server has written to standard output and error since it was first started.
func (p *Process) Log() string {
	p.t.Helper()
	log, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatalf("reading the log of %s: %v", p.command.Name, err)
	}
	return string(log)
}

func (p *Process) tail() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-logTail):])
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

const (
	readyTimeout = 90 * time.Second
	stopTimeout  = 20 * time.Second
)

// start runs a command that outlives this program, leaves its pid and log in the lab's folder, and waits until it is
// ready.
func (l lab) start(ctx context.Context, command testserver.Command) error {
	log, err := os.Create(l.path(command.Name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(command.Path, command.Args...)
	cmd.Env = append(os.Environ(), command.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C in this terminal is not for it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", command.Name, err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(exited)
	}()
	pid := []byte(strconv.Itoa(cmd.Process.Pid) + "\n")
	if err := os.WriteFile(l.path(command.Name+".pid"), pid, 0o600); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}

	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := command.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("starting %s: %v; its log is %s", command.Name, cmd.ProcessState, log.Name())
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s is ready: %w; its log is %s", command.Name, err, log.Name())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// running returns the processes of the pid files that exist and still run a program of bin: the kernel may have
// given the number of one that ended to somebody else.
func (l lab) running() map[string]*os.Process {
	running := make(map[string]*os.Process)
	files, _ := filepath.Glob(l.path("*.pid")) // the pattern is good
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".pid")
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
		if err != nil {
			continue
		}
		arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.HasPrefix(string(arguments), filepath.Join(l.bin, name)+"\x00") {
			continue
		}
		if process, err := os.FindProcess(pid); err == nil {
			running[name] = process
		}
	}
	return running
}

// down ends everything, the API server first: it would complain about the others for a long time.
func (l lab) down() error {
	running := l.running()
	for _, name := range []string{"kube-apiserver", "etcd", "trousseaud"} {
		process := running[name]
		if process == nil {
			continue
		}
		if err := process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("ending %s: %w", name, err)
		}
		for deadline := time.Now().Add(stopTimeout); l.running()[name] != nil; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				return fmt.Errorf("ending %s: pid %d still runs %s after SIGTERM", name, process.Pid, stopTimeout)
			}
		}
		fmt.Fprintf(os.Stderr, "%s has ended\n", name)
	}
	return nil
}

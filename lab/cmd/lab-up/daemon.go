package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
)

// daemon is what "trousseau init" has made.
type daemon struct {
	command          testserver.Command
	encryptionConfig string // path
}

// initialise lets "trousseau init" write a keystore and the configuration of both sides of the socket.
func (l lab) initialise(ctx context.Context) (daemon, error) {
	dir, socket := l.path("trousseau"), l.path("run/kms.sock")
	if err := os.Mkdir(filepath.Dir(socket), 0o700); err != nil {
		return daemon{}, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(l.bin, "trousseau"),
		"init", "--dir", dir, "--cluster", "lab", "--local", "--socket", socket)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return daemon{}, fmt.Errorf("running trousseau init: %w", err)
	}
	return daemon{
		command: testserver.Command{
			Name:  "trousseaud",
			Path:  filepath.Join(l.bin, "trousseaud"),
			Args:  []string{"--config", filepath.Join(dir, "trousseaud.yaml")},
			Ready: func(ctx context.Context) error { return askStatus(ctx, socket) },
		},
		encryptionConfig: filepath.Join(dir, "encryption-config.yaml"),
	}, nil
}

// askStatus asks a KMS plugin how it is, with the API server's own client.
func askStatus(ctx context.Context, socket string) error {
	if _, err := os.Stat(socket); err != nil {
		return err // the client would log it at length
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // closes the connection
	client, err := kmsv2.NewGRPCService(ctx, "unix://"+socket, "lab", 3*time.Second)
	if err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if status.Healthz != "ok" {
		return fmt.Errorf("the plugin says that it is %q", status.Healthz)
	}
	return nil
}

package socket_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/trousseau-io/trousseau/internal/socket"
)

// A gRPC server on the socket knows its peers without any credentials, and outlives its socket file.
func TestGRPC(t *testing.T) {
	path := filepath.Join(shortDir(t), "kms.sock")
	l, _ := listen(t, socket.Config{Path: path})
	var seen atomic.Value
	server := grpc.NewServer(grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			p, _ := peer.FromContext(ctx)
			seen.Store(p.Addr)
			return handle(ctx, req)
		}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	client, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	call := func() error {
		// As the API server calls: three seconds, the time to connect included.
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := healthpb.NewHealthClient(client).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	if p, ok := seen.Load().(socket.Peer); !ok || p.PID != int32(os.Getpid()) {
		t.Errorf("the handler sees %#v, want this process", seen.Load())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := call(); err != nil {
		t.Errorf("without the file: %v", err)
	}
	eventually(t, "the file is back", exists(path))
	if err := call(); err != nil {
		t.Errorf("with the new file: %v", err)
	}
	server.GracefulStop()
	if err := <-served; err != nil {
		t.Errorf("the server ended with %v", err)
	}
	if exists(path)() {
		t.Error("the socket file is still there")
	}
}

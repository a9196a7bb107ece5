package upstream_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream"
	"github.com/trousseau-io/trousseau/internal/kms"
)

// trousseau serves another Trousseau over a fake key. Its rotate returns when the new version is announced.
func trousseau(t *testing.T) (socket string, rotate func(t *testing.T)) {
	t.Helper()
	fake := keyservicetest.NewFake(time.Now())
	cluster := envelope.Cluster{Name: "prod-eu-1", Lineage: [16]byte{0x7f}}
	policy, err := envelope.NewPolicy(cluster, 0, 1, envelope.Member{ID: "fake", Key: fake})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := envelope.NewRing(policy)
	if err != nil {
		t.Fatal(err)
	}
	plugin := kms.New(kms.Setup{Ring: ring, ProbeInterval: 10 * time.Millisecond}, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- plugin.Run(ctx) }()

	socket = filepath.Join(shortDir(t), "kms.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	kms.RegisterV2(server, plugin)
	go server.Serve(listener)
	t.Cleanup(func() {
		server.Stop()
		cancel()
		<-stopped
	})
	return socket, func(t *testing.T) {
		t.Helper()
		before, err := plugin.KeyID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fake.Rotate(time.Now())
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if now, err := plugin.KeyID(t.Context()); err == nil && now != before {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the new version is not announced")
			}
		}
	}
}

func TestConformanceWithAnotherTrousseau(t *testing.T) {
	keyservicetest.Run(t, func(t *testing.T) keyservicetest.Harness {
		socket, rotate := trousseau(t)
		return keyservicetest.Harness{
			Open:         func(t *testing.T, log *slog.Logger) keyservice.Key { return open(t, socket, log) },
			Form:         upstream.Describe().Forms[0],
			CannotChoose: true,
			Rotate:       rotate,
		}
	})
}

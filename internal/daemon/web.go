package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// listenWeb listens for metrics and health, or returns nil if they are off.
func listenWeb(address string) (net.Listener, error) {
	if address == config.Off {
		return nil, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &startError{
			fmt.Errorf("listening for metrics and health: %w", err),
			"set observe.listen to a free address, or to off",
		}
	}
	return listener, nil
}

// serveWeb serves metrics and health until ctx ends.
func (d *daemon) serveWeb(ctx context.Context, listener net.Listener) error {
	if listener == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", livez)
	mux.HandleFunc("GET /readyz", d.readyz)
	return serveHTTP(ctx, listener, mux, "metrics and health")
}

// serveHTTP serves what until ctx ends.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, what string) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stopped := context.AfterFunc(ctx, func() { server.Close() })
	defer stopped()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", what, err)
	}
	return nil
}

// livez says that the process works. Key services do not count: restarting the daemon mends none.
func livez(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

// readyz says, from memory, what Status tells the API server.
func (d *daemon) readyz(w http.ResponseWriter, _ *http.Request) {
	if note, locked := d.lock.look(); locked {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "not ready: %s\n%s\n", note, unlockHint)
		return
	}
	snap := d.plugin.Snapshot()
	if !snap.Ready() {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "not ready: %v\n%s\n", snap.Err, keyservice.HintOf(snap.Err))
		return
	}
	fmt.Fprintf(w, "ok\nstate %s\nkey id %s\n", snap.State, snap.KeyID)
}

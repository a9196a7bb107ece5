// Package daemon puts trousseaud together: it opens the keys, listens, serves the API server, shows its health, takes a
// new configuration without closing the socket, and finishes what is under way before it ends.
//
// It decides nothing about keys, envelopes or Kubernetes: those are the packages that it connects.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/kms"
	"github.com/trousseau-io/trousseau/internal/socket"
)

// shutdownTime bounds how long calls in flight are waited for. API servers give up after 3 s by default.
const shutdownTime = 10 * time.Second

// How calls to key services are surrounded.
const (
	callTimeout = 10 * time.Second       // of one attempt
	retryPause  = 100 * time.Millisecond // before the second attempt
	callLimit   = 32                     // under way to one key at once
)

// Options says what to run.
type Options struct {
	ConfigPath string
	Release    string    // of this program, for KMS v1beta1 and metrics
	Log        io.Writer // usually standard error
}

// daemon is a running trousseaud.
type daemon struct {
	Options
	log     *slog.Logger
	level   *slog.LevelVar
	metrics *metrics
	plugin  *kms.Plugin
	hangup  chan os.Signal
	lock    lock
	audit   audit
	bursts  bursts

	// Owned by the goroutine that reloads.
	config *config.Daemon
	hash   string // of the configuration in use
	keys   *keyring.Keyring
}

// Run serves until ctx ends, then lets calls in flight finish and returns nil. An error says why the daemon cannot start
// or go on. Key services that do not answer are no reason: they are tried until they do.
func Run(ctx context.Context, options Options) error {
	d := &daemon{Options: options, level: new(slog.LevelVar), hangup: make(chan os.Signal, 1)}
	signal.Notify(d.hangup, syscall.SIGHUP) // first of all: until then it would end the process
	defer signal.Stop(d.hangup)
	file, err := readConfig(options.ConfigPath)
	if err != nil {
		return err
	}
	d.config, d.hash = file.config, file.hash
	d.log = newLogger(options.Log, d.config.Observe, d.level)
	if err := harden(); err != nil {
		d.log.Warn("memory of the process may end up in a core dump", "error", err)
	}
	d.metrics = newMetrics(options.Release)
	if d.audit, err = openAudit(d.config.AuditLog, d.log); err != nil {
		return err
	}
	defer d.audit.close()
	d.metrics.watchAudit(d.audit.counts)
	d.bursts = bursts{limit: uint64(d.config.Observe.OpensPerMinute), log: d.log, count: d.metrics.bursts.Inc}
	if d.keys, err = keyring.OpenEnough(ctx, d.config, d.log, d.surround); err != nil {
		return fmt.Errorf("opening the keys of %s: %w", options.ConfigPath, err)
	}
	defer func() { d.keys.Close() }()
	first, err := d.setup(ctx, d.config, d.keys)
	if err != nil {
		return err
	}
	d.plugin = kms.New(first, d.log)
	if err := d.startLock(); err != nil {
		return err
	}
	d.metrics.watch(d.plugin, d.lock.locked)
	d.metrics.reloaded(d.hash, nil)

	listener, err := d.listen()
	if err != nil {
		return err
	}
	admin, err := d.listenAdmin()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	web, err := listenWeb(d.config.Observe.Listen)
	if err != nil {
		return errors.Join(err, listener.Close(), admin.Close())
	}
	return d.serve(ctx, listener, admin, web)
}

func (d *daemon) listen() (net.Listener, error) {
	s := d.config.Socket
	return socket.Listen(socket.Config{
		Path: s.Path, Mode: fs.FileMode(s.Mode), Group: s.Group, AllowUIDs: s.AllowUIDs,
		Refused: func(p socket.Peer) { d.metrics.refusedPeers.Inc(); d.audit.refused(p) },
	}, d.log)
}

// serve runs everything until ctx ends or a part fails.
func (d *daemon) serve(ctx context.Context, listener, admin, web net.Listener) error {
	server := d.newServer()
	defer d.audit.start(slog.String("release", d.Release), slog.String("config", d.hash))()
	d.log.Info("serving", "socket", d.config.Socket.Path, "observe", d.config.Observe.Listen, "release", d.Release)
	notify("READY=1") // the socket takes connections already
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.probe(ctx) })
	group.Go(func() error { return d.watchConfig(ctx) })
	group.Go(func() error { return d.serveWeb(ctx, web) })
	group.Go(func() error { return d.serveAdmin(ctx, admin) })
	group.Go(func() error {
		if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // stopped before it began
			return fmt.Errorf("serving on the socket: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		notify("STOPPING=1")
		d.log.Info("stopping, once the calls in flight are answered")
		stop(server)
		return nil
	})
	return group.Wait()
}

// stop ends the server when its calls are answered, or after shutdownTime.
func stop(server *grpc.Server) {
	late := time.AfterFunc(shutdownTime, server.Stop)
	defer late.Stop()
	server.GracefulStop()
}

// surround bounds the calls to a key in time and number, repeats those that an outage ended, and measures them.
func (d *daemon) surround(id string, key keyservice.Key) keyservice.Key {
	return keyservice.With(key,
		keyservice.Observe(d.metrics.observeKey(id)),
		keyservice.Limit(callLimit),
		keyservice.Retry(retryPause),
		keyservice.Timeout(callTimeout),
	)
}

// The lab-up command starts a small cluster to play with, and leaves it running: etcd, kube-apiserver and a trousseaud
// whose configuration comes from "trousseau init".
//
//	lab-up          starts from nothing in the folder .lab of the repository, and prints what to try
//	lab-up down     ends what lab-up started; its files stay until the next start
//
// Everything listens on 127.0.0.1. Ports are chosen anew at each start.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
	"github.com/trousseau-io/trousseau/lab/cluster"
)

func main() {
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: lab-up [down]") }
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	root, err := testserver.Root()
	if err != nil {
		fail(err)
	}
	l := lab{root: root, dir: filepath.Join(root, ".lab"), bin: filepath.Join(root, "bin")}
	switch {
	case flag.NArg() == 0:
		err = l.up(ctx)
	case flag.NArg() == 1 && flag.Arg(0) == "down":
		err = l.down()
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "lab-up: error:", err)
	os.Exit(1)
}

// lab is where everything lies.
type lab struct {
	root string // of the repository
	dir  string // of what runs
	bin  string // of the programs
}

// up starts the programs one after the other, and ends them all if one does not get ready.
func (l lab) up(ctx context.Context) (err error) {
	if pids := l.running(); len(pids) > 0 {
		return errors.New("it runs already; end it with: make lab-down")
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(l.dir, "cluster"), 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.down())
		}
	}()

	daemon, err := l.initialise(ctx)
	if err != nil {
		return err
	}
	plane, err := cluster.New(cluster.Config{
		Dir: filepath.Join(l.dir, "cluster"), Bin: l.bin, EncryptionConfig: daemon.encryptionConfig,
	})
	if err != nil {
		return err
	}
	for _, command := range []testserver.Command{daemon.command, plane.Etcd(), plane.APIServer()} {
		started := time.Now()
		if err := l.start(ctx, command); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s is ready after %s\n", command.Name, time.Since(started).Round(time.Millisecond))
	}
	if err := plane.WriteKubeconfig(l.path("kubeconfig")); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	fmt.Printf(`
Create a Secret, read it back, and see what etcd holds of it:

  bin/kubectl --kubeconfig .lab/kubeconfig create secret generic demo --from-literal=password=hunter2
  bin/kubectl --kubeconfig .lab/kubeconfig get secret demo -o yaml
  bin/etcdctl --endpoints %s get --print-value-only /registry/secrets/default/demo | od -c

Configuration and logs are in .lab. End it with: make lab-down
`, plane.EtcdEndpoint())
	return nil
}

func (l lab) path(name string) string { return filepath.Join(l.dir, name) }

// Command trousseaud is the KMS plugin that kube-apiserver calls over a Unix socket.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/trousseau-io/trousseau/internal/daemon"
	"github.com/trousseau-io/trousseau/internal/release"
)

const usage = `trousseaud wraps the data keys of kube-apiserver with keys in external key services.

Usage:
  trousseaud [--config FILE]
  trousseaud --version

It serves until SIGTERM or SIGINT, and takes a changed configuration by itself or on SIGHUP.
Exit codes: 0 stopped as asked, 1 cannot start or go on, 2 bad usage.

`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("trousseaud", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	path := flags.String("config", "/etc/trousseau/trousseaud.yaml", "the configuration `file`")
	version := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "trousseaud: error: unexpected argument %q\ntrousseaud: hint: the configuration is given with --config\n", flags.Arg(0))
		return 2
	case *version:
		fmt.Println("trousseaud", release.Version())
		return 0
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := daemon.Run(ctx, daemon.Options{ConfigPath: *path, Release: release.Version(), Log: os.Stderr})
	if err != nil {
		fmt.Fprintf(os.Stderr, "trousseaud: error: %v\n", err)
		if hint := daemon.Hint(err); hint != "" {
			fmt.Fprintf(os.Stderr, "trousseaud: hint: %s\n", hint)
		}
		return 1
	}
	return 0
}

// Command trousseau is the operator's tool for everything around trousseaud: it sets up, looks, proves and explains.
//
// This package parses flags and prints; what the verbs do is in internal packages. There is one file per verb.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, in io.Reader, out, errOut io.Writer) int {
	klog.SetLogger(logr.Discard()) // the API server's code logs what it returns as an error too
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	code, hint := judge(err)
	if code == exitFindings || code == exitPartly {
		return code // what there is to say was printed
	}
	if code == exitUsage && hint == "" {
		hint = "see " + cmd.CommandPath() + " --help"
	}
	fmt.Fprintf(errOut, "trousseau: error: %s\n", strings.ReplaceAll(err.Error(), "\n", "\ntrousseau: error: "))
	if hint != "" {
		fmt.Fprintf(errOut, "trousseau: hint: %s\n", hint)
	}
	return code
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/kmsclient"
)

// addPlugin adds the flags that say which plugin to call, and how.
func addPlugin(cmd *cobra.Command) *kmsclient.Options {
	o := new(kmsclient.Options)
	cmd.Flags().StringVar(&o.Socket, "socket", defaultSocket, "the `PATH` of the plugin's socket")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", kmsclient.DefaultTimeout, "how long to wait for an answer; an API server waits 3s by default")
	cmd.Flags().BoolVar(&o.V1beta1, "v1beta1", false, "speak KMS v1beta1 instead of v2")
	return o
}

func newStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask a KMS plugin how it is, as kube-apiserver does",
		Long: "Asks the plugin on a socket for its status, with the API server's own client. It works with any KMS plugin.\n" +
			"A plugin that says that it is not well makes the command fail.",
		Args: cobra.NoArgs,
	}
	options, asJSON := addPlugin(cmd), addJSON(cmd)
	prove := cmd.Flags().Bool("prove", false, "also seal and open a value through the API server's own code")
	wait := cmd.Flags().Duration("wait", 0, "how long to try again while the plugin does not answer, such as 10s after its start")
	cmd.MarkFlagsMutuallyExclusive("prove", "v1beta1")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := dialWithin(cmd.Context(), *options, *wait)
		if err != nil {
			return err
		}
		defer client.Close()
		if *prove {
			return proveIt(cmd, client, *asJSON)
		}
		start := time.Now()
		status, err := client.Status(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			err = printJSON(cmd.OutOrStdout(), status)
		} else {
			err = printStatus(cmd, status, []any{"answered in", time.Since(start).Round(10 * time.Microsecond)})
		}
		if err == nil && status.Healthz != "ok" {
			return advised{fmt.Errorf("the plugin says %q", status.Healthz), "see the plugin's log"}
		}
		return err
	}
	return cmd
}

// dialWithin connects to a plugin that gives a status, and tries again until it does or time is up.
func dialWithin(ctx context.Context, options kmsclient.Options, patience time.Duration) (*kmsclient.Client, error) {
	for deadline := time.Now().Add(patience); ; {
		client, err := kmsclient.Dial(options)
		if err == nil && patience > 0 {
			if _, err = client.Status(ctx); err != nil {
				client.Close()
			}
		}
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return client, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func printStatus(cmd *cobra.Command, s kmsclient.Status, more ...[]any) error {
	colour, id := red, s.KeyID
	if s.Healthz == "ok" {
		colour = green
	}
	if id == "" {
		id = "none: KMS v1beta1 has no key ids"
	}
	rows := append([][]any{
		{"health", styleFor(cmd.OutOrStdout()).paint(colour, s.Healthz)},
		{"key id", id},
		{"KMS version", s.Version},
	}, more...)
	return table(cmd.OutOrStdout(), rows...)
}

func proveIt(cmd *cobra.Command, client *kmsclient.Client, asJSON bool) error {
	proof, err := kmsclient.Prove(cmd.Context(), client)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), proof)
	}
	return printStatus(cmd, proof.Status,
		[]any{"sealed in", proof.Wrap.Round(10 * time.Microsecond)},
		[]any{"opened in", proof.Unwrap.Round(10 * time.Microsecond)},
		[]any{"ciphertext", fmt.Sprintf("%d bytes of 1024", proof.Ciphertext)},
		[]any{"stored per object", fmt.Sprintf("%d bytes", proof.Stored)},
	)
}

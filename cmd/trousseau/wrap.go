package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/kmsclient"
)

// maxInput bounds what wrap and unwrap read, in bytes. A plugin gets 32 of them from an API server, and may answer with
// 32 KiB of annotations.
const maxInput = 1 << 20

func newWrap() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wrap",
		Short: "Let a KMS plugin wrap what comes on standard input",
		Long: "Reads a plaintext of at most 512 bytes (Trousseau's limit) from standard input, has it wrapped as an API server\n" +
			"would, and prints JSON with ciphertext and annotations in base64, and the key id. It works with any KMS plugin.",
		Example: "  head -c 32 /dev/urandom | trousseau wrap > wrapped.json",
		Args:    cobra.NoArgs,
	}
	options := addPlugin(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		plaintext, err := readInput(cmd, "the plaintext")
		if err != nil {
			return err
		}
		defer clear(plaintext)
		client, err := kmsclient.Dial(*options)
		if err != nil {
			return err
		}
		defer client.Close()
		sealed, err := client.Encrypt(cmd.Context(), newUID(), plaintext)
		if err != nil {
			return err
		}
		return printJSON(cmd.OutOrStdout(), sealed)
	}
	return cmd
}

// readInput reads standard input, and says so where a person would wonder why nothing happens.
func readInput(cmd *cobra.Command, what string) ([]byte, error) {
	if isTerminal(cmd.InOrStdin()) {
		fmt.Fprintf(cmd.ErrOrStderr(), "Type or paste %s; end with Ctrl-D.\n", what)
	}
	content, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxInput+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading standard input: %w", err)
	case len(content) > maxInput:
		return nil, fmt.Errorf("reading standard input: more than %d bytes", maxInput)
	case len(content) == 0:
		return nil, badUsage{errors.New("standard input is empty: pass " + what + " there")}
	}
	return content, nil
}

// newUID names one call in the plugin's log.
func newUID() string { return "trousseau-" + rand.Text() }

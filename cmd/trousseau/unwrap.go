package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/kmsclient"
)

func newUnwrap() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unwrap",
		Short: "Let a KMS plugin unwrap what wrap printed",
		Long: "Reads the JSON of trousseau wrap from standard input and writes the plaintext to standard output, byte for byte.\n" +
			"It works with any KMS plugin. A plaintext is not shown on a terminal, unless --force is given.",
		Example: "  trousseau unwrap < wrapped.json | sha256sum",
		Args:    cobra.NoArgs,
	}
	options := addPlugin(cmd)
	force := cmd.Flags().Bool("force", false, "write the plaintext even to a terminal")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if isTerminal(cmd.OutOrStdout()) && !*force {
			return badUsage{errors.New("a plaintext does not belong on a terminal: redirect the output, or give --force")}
		}
		sealed, err := readSealed(cmd)
		if err != nil {
			return err
		}
		client, err := kmsclient.Dial(*options)
		if err != nil {
			return err
		}
		defer client.Close()
		plaintext, err := client.Decrypt(cmd.Context(), newUID(), sealed)
		if err != nil {
			return err
		}
		defer clear(plaintext)
		_, err = cmd.OutOrStdout().Write(plaintext)
		return err
	}
	return cmd
}

func readSealed(cmd *cobra.Command) (kmsclient.Sealed, error) {
	var sealed kmsclient.Sealed
	input, err := readInput(cmd, "the JSON of trousseau wrap")
	if err != nil {
		return sealed, err
	}
	decoder := json.NewDecoder(bytes.NewReader(input))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&sealed); err != nil {
		return sealed, advised{fmt.Errorf("reading standard input: %w", err), "pass what trousseau wrap printed"}
	}
	return sealed, nil
}

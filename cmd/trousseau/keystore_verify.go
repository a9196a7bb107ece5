package main

import (
	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/keystore"
)

func newKeystoreVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify KEYSTORE",
		Short: "Prove that a keystore is whole and opens, and list its versions",
		Long:  "Opens a keystore and prints its versions, which are the same on every node. Nothing is changed.",
		Args:  cobra.ExactArgs(1),
	}
	seal, asJSON := addSealing(cmd), addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return seal.with(func(sealer keystore.Sealer) error {
			summary, err := keystore.Verify(args[0], sealer)
			if err != nil {
				return explainWrongSealing(args[0], err)
			}
			return printSummary(cmd, args[0], summary, *asJSON)
		})
	}
	return cmd
}

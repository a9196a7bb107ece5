package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newTPMCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create KEYSTORE",
		Short: "Write a new keystore with one version, its key sealed to this node's TPM",
		Long: "Writes a new keystore with one random key, and KEYSTORE.tpm with what opens it. Do this once per cluster, then back the\n" +
			"key up (trousseau tpm backup) and carry it to the other nodes (trousseau tpm request there). An existing file is never\n" +
			"overwritten.",
		Example: "  trousseau tpm create /var/lib/trousseau/keystore",
		Args:    cobra.ExactArgs(1),
	}
	n, pcrs, asJSON := addNode(cmd), addPCRs(cmd), addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, selected, err := n.sealing(args[0], *pcrs)
		if err != nil {
			return err
		}
		v, err := c.Create(cmd.Context(), selected)
		if err != nil {
			return err
		}
		warnNoPCRs(cmd, selected)
		return printVersion(cmd, v, *asJSON, fmt.Sprintf("Created %s with version %s, which opens on this node alone. Back its key up now: trousseau tpm backup.",
			c.Keystore, v.ID))
	}
	return cmd
}

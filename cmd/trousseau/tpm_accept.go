package main

import "github.com/spf13/cobra"

func newTPMAccept() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accept KEYSTORE GRANT",
		Short: "Take the keystore's key from a grant and seal it to this node's TPM",
		Long: "Opens what trousseau tpm grant wrote for this node, checks that it opens the keystore, which was copied here before, and\n" +
			"writes KEYSTORE.tpm, also over one that does not open any more. Delete the grant afterwards.",
		Args: cobra.ExactArgs(2),
	}
	n, asJSON := addNode(cmd), addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := n.config(args[0])
		if err != nil {
			return err
		}
		v, err := c.Accept(cmd.Context(), args[1])
		if err != nil {
			return err
		}
		return printSealed(cmd, c, v, *asJSON)
	}
	return cmd
}

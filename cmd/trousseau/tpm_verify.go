package main

import "github.com/spf13/cobra"

func newTPMVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify KEYSTORE",
		Short: "Prove that the keystore opens with this node's TPM now, and list its versions",
		Long: "Opens a keystore as the daemon does when it starts, and prints its versions, which are the same on every node. If PCRs\n" +
			"changed, it says which. Nothing is changed.",
		Args: cobra.ExactArgs(1),
	}
	n, asJSON := addNode(cmd), addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := n.config(args[0])
		if err != nil {
			return err
		}
		v, err := c.Verify(cmd.Context())
		if err != nil {
			return err
		}
		return printSealed(cmd, c, v, *asJSON)
	}
	return cmd
}

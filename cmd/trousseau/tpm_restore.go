package main

import "github.com/spf13/cobra"

func newTPMRestore() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore KEYSTORE BACKUP",
		Short: "Take the keystore's key from a backup and seal it to this node's TPM",
		Long: "Opens what trousseau tpm backup wrote, checks that it opens the keystore, and writes KEYSTORE.tpm, also over one that does\n" +
			"not open any more. The backup may also be the key file of any keystore that a key seals, encrypted with age: so a keystore\n" +
			"moves from the key service local to tpm.",
		Args: cobra.ExactArgs(2),
	}
	n, pcrs, asJSON := addNode(cmd), addPCRs(cmd), addJSON(cmd)
	identity := cmd.Flags().String("identity", "", "the `FILE` with the age identity of one of the backup's recipients")
	_ = cmd.MarkFlagRequired("identity")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, selected, err := n.sealing(args[0], *pcrs)
		if err != nil {
			return err
		}
		identities, err := credentialFile(*identity)
		if err != nil {
			return err
		}
		v, err := c.Restore(cmd.Context(), args[1], identities, selected)
		if err != nil {
			return err
		}
		warnNoPCRs(cmd, v.PCRs)
		return printSealed(cmd, c, v, *asJSON)
	}
	return cmd
}

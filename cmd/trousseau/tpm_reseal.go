package main

import "github.com/spf13/cobra"

func newTPMReseal() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reseal KEYSTORE",
		Short: "Seal the keystore's key to other PCRs, while it still opens",
		Long: "Seals the key to the present values of the PCRs. Before an update that changes some, seal it to others or to none; after the\n" +
			"restart, seal it to them again. Once PCRs changed without that, this cannot help: see trousseau tpm request and restore.",
		Example: "  trousseau tpm reseal --pcrs none /var/lib/trousseau/keystore   # update the firmware, restart, then:\n" +
			"  trousseau tpm reseal --pcrs 7 /var/lib/trousseau/keystore",
		Args: cobra.ExactArgs(1),
	}
	n, pcrs, asJSON := addNode(cmd), addPCRs(cmd), addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, selected, err := n.sealing(args[0], *pcrs)
		if err != nil {
			return err
		}
		v, err := c.Reseal(cmd.Context(), selected)
		if err != nil {
			return err
		}
		warnNoPCRs(cmd, v.PCRs)
		return printSealed(cmd, c, v, *asJSON)
	}
	return cmd
}

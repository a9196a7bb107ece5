package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// grantOutput is a grant as JSON.
type grantOutput struct {
	Grant string `json:"grant"`
	PCRs  []int  `json:"pcrs"`
}

func newTPMGrant() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "grant KEYSTORE REQUEST GRANT",
		Short: "Answer another node's request with the keystore's key, sealed for its TPM",
		Long: "Writes a file that only the TPM of the node opens that made the request, in the state in which it made it. The\n" +
			"fingerprint is the one that trousseau tpm request printed on that node: read it from that node's own terminal.",
		Example: "  trousseau tpm grant --fingerprint 0b1e-... /var/lib/trousseau/keystore node2.request node2.grant",
		Args:    cobra.ExactArgs(3),
	}
	n, asJSON := addNode(cmd), addJSON(cmd)
	fingerprint := cmd.Flags().String("fingerprint", "", "the `FINGERPRINT` of the request, as the other node printed it")
	_ = cmd.MarkFlagRequired("fingerprint")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := n.config(args[0])
		if err != nil {
			return err
		}
		grant, err := c.Grant(cmd.Context(), args[1], *fingerprint, args[2])
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), grantOutput{args[2], grant.PCRs().List()})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "Wrote %s. Copy it and %s to the other node, and there:\n"+
			"  trousseau tpm accept KEYSTORE %s\n", args[2], c.Keystore, args[2])
		return err
	}
	return cmd
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// requestOutput is a request as JSON.
type requestOutput struct {
	Request     string `json:"request"`
	Fingerprint string `json:"fingerprint"`
	PCRs        []int  `json:"pcrs"`
}

func newTPMRequest() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "request REQUEST",
		Short: "Ask another node for the keystore's key, for this node's TPM",
		Long: "Writes a file that another node answers with a grant, which only this node's TPM opens, and only while the PCRs keep\n" +
			"their values. The file is not secret, but who exchanges it on the way would be granted the key: give trousseau tpm grant\n" +
			"the fingerprint that is printed here, and no other.",
		Example: "  trousseau tpm request node2.request",
		Args:    cobra.ExactArgs(1),
	}
	n, pcrs, asJSON := new(node), addPCRs(cmd), addJSON(cmd)
	addDevice(cmd, n)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, selected, err := n.sealing("", *pcrs)
		if err != nil {
			return err
		}
		request, err := c.Request(cmd.Context(), args[0], selected)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), requestOutput{args[0], request.Fingerprint(), request.PCRs().List()})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "Wrote %s. Copy it to a node that opens the keystore, and answer it there:\n"+
			"  trousseau tpm grant --fingerprint %s KEYSTORE %s GRANT\n", args[0], request.Fingerprint(), args[0])
		return err
	}
	return cmd
}

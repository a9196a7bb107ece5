package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/keyservice/tpm"
)

// tpmBackupOutput is a backup as JSON.
type tpmBackupOutput struct {
	Backup     string `json:"backup"`
	Recipients int    `json:"recipients"`
}

func newTPMBackup() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup KEYSTORE BACKUP",
		Short: "Write the keystore's key to a file that age identities open",
		Long: "Writes the key that opens the keystore, encrypted to age recipients whose identities are kept outside of the cluster: the\n" +
			"way back when no node's TPM opens it any more. The keystore itself is not in it: keep a copy of that, too, after each\n" +
			"rotation. An existing file is never overwritten.",
		Example: "  age-keygen -o escrow.txt   # elsewhere: this file opens the backup\n" +
			"  trousseau tpm backup --recipient age1... /var/lib/trousseau/keystore keystore-key.age",
		Args: cobra.ExactArgs(2),
	}
	n, asJSON := addNode(cmd), addJSON(cmd)
	recipients := cmd.Flags().StringArray("recipient", nil, "the age `RECIPIENT` whose identity opens the backup; may be repeated")
	_ = cmd.MarkFlagRequired("recipient")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		parsed, err := tpm.ParseRecipients(*recipients)
		if err != nil {
			return badUsage{err}
		}
		c, err := n.config(args[0])
		if err != nil {
			return err
		}
		if err := c.Backup(cmd.Context(), args[1], parsed); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), tpmBackupOutput{args[1], len(parsed)})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "Wrote %s for %d recipient(s). Keep it with a copy of %s, outside of the cluster.\n",
			args[1], len(parsed), c.Keystore)
		return err
	}
	return cmd
}

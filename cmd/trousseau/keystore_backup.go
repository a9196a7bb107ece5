package main

import (
	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/keystore"
)

func newKeystoreBackup() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup KEYSTORE BACKUP",
		Short: "Write the same versions to another file, sealed with the same secret or a new one",
		Long: "Writes a second keystore with the same versions, then opens and compares it. An existing file is never overwritten, and\n" +
			"a sealed keystore is never backed up unsealed. With a new secret it is also the way to change the secret.",
		Example: "  trousseau keystore backup --key-file SECRET /var/lib/trousseau/keystore /media/usb/trousseau-keystore",
		Args:    cobra.ExactArgs(2),
	}
	from, to, asJSON := addSealing(cmd), addNewSealing(cmd), addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		newSealing := from
		if to.given() {
			newSealing = to
		}
		return from.with(func(opener keystore.Sealer) error {
			return newSealing.with(func(sealer keystore.Sealer) error {
				summary, err := keystore.Backup(args[0], opener, args[1], sealer)
				if err != nil {
					return explainWrongSealing(args[0], err)
				}
				if sealer.Sealing() == keystore.SealingNone {
					warnUnsealed(cmd, args[1])
				}
				return printSummary(cmd, args[1], summary, *asJSON)
			})
		})
	}
	return cmd
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/keystore"
)

func newKeystoreCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create KEYSTORE",
		Short: "Write a new keystore with one version",
		Long: "Writes a new keystore with one random key. Do this once per cluster and copy the file to the other nodes.\n" +
			"An existing file is never overwritten.",
		Example: "  (umask 077; head -c 32 /dev/urandom | base64 -w0 > /etc/trousseau/keystore.secret)\n" +
			"  trousseau keystore create --key-file /etc/trousseau/keystore.secret /var/lib/trousseau/keystore",
		Args: cobra.ExactArgs(1),
	}
	seal, asJSON := addSealing(cmd), addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return seal.with(func(sealer keystore.Sealer) error {
			v, err := keystore.Create(args[0], sealer)
			if err != nil {
				return err
			}
			if seal.unsealed {
				warnUnsealed(cmd, args[0])
			}
			return printVersion(cmd, v, *asJSON,
				fmt.Sprintf("Created %s with version %s. Copy it to every other control plane node, and keep a backup elsewhere.", args[0], v.ID))
		})
	}
	return cmd
}

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/keystore"
)

func newKeystoreRotate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate KEYSTORE",
		Short: "Add a version that is used from a later time on",
		Long: "Adds a version, which every daemon seals with once its time has come. Copy the keystore to every node before that.\n" +
			"Older versions stay, because what they sealed needs them. docs/keyservices/local.md has all steps.",
		Args: cobra.ExactArgs(1),
	}
	seal, asJSON := addSealing(cmd), addJSON(cmd)
	delay := cmd.Flags().Duration("delay", time.Hour, "how long from now on the version is not used; 0s is for a single node")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *delay < 0 {
			return badUsage{fmt.Errorf("--delay is %s: give 0s or more", *delay)}
		}
		return seal.with(func(sealer keystore.Sealer) error {
			v, err := keystore.Rotate(args[0], sealer, *delay)
			if err != nil {
				return explainWrongSealing(args[0], err)
			}
			text := fmt.Sprintf("Added version %s, used from %s on (plus activationDelay). Copy the keystore to every other node before that.",
				v.ID, v.Created.Local().Format(time.RFC3339))
			return printVersion(cmd, v, *asJSON, text)
		})
	}
	return cmd
}

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func newTPMRotate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate KEYSTORE",
		Short: "Add a version that is used from a later time on",
		Long: "Adds a version, which every daemon seals with once its time has come. Copy the keystore to every node before that; its\n" +
			"key, KEYSTORE.tpm, stays the same. Older versions stay, because what they sealed needs them.",
		Args: cobra.ExactArgs(1),
	}
	n, asJSON := addNode(cmd), addJSON(cmd)
	delay := cmd.Flags().Duration("delay", time.Hour, "how long from now on the version is not used; 0s is for a single node")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *delay < 0 {
			return badUsage{fmt.Errorf("--delay is %s: give 0s or more", *delay)}
		}
		c, err := n.config(args[0])
		if err != nil {
			return err
		}
		v, err := c.Rotate(cmd.Context(), *delay)
		if err != nil {
			return err
		}
		return printVersion(cmd, v, *asJSON, fmt.Sprintf(
			"Added version %s, used from %s on (plus activationDelay). Copy the keystore to every other node before that.",
			v.ID, v.Created.Local().Format(time.RFC3339)))
	}
	return cmd
}

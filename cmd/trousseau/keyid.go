package main

import "github.com/spf13/cobra"

func newKeyID() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key-id",
		Short: "Explain the key ids that Kubernetes stores beside each object",
		Args:  cobra.NoArgs,
		RunE:  showHelp,
	}
	cmd.AddCommand(newExplain())
	return cmd
}

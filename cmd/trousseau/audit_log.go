package main

import "github.com/spf13/cobra"

func newAuditLog() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit-log",
		Short: "Export heads of a daemon's audit log, and prove that nobody has changed it",
		Args:  cobra.NoArgs,
		RunE:  showHelp,
	}
	cmd.AddCommand(newAuditLogHead(), newAuditLogVerify())
	return cmd
}

package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/admin"
	"github.com/trousseau-io/trousseau/internal/auditlog"
)

func newAuditLogHead() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "head",
		Short: "Export a head of the audit log, with which it can be verified from here on",
		Long: `Asks the running daemon for a head of its audit log, and prints it: one line that is secret, because who has it can forge what
the log holds from here on. Keep it on another machine, where who takes over this one cannot reach it, and nowhere else.
The export is a line of the log. Run it as root or as the daemon's user.`,
		Example: "  ssh root@node-1 trousseau audit-log head > heads/node-1.$(date +%F)",
		Args:    cobra.NoArgs,
	}
	socket := cmd.Flags().String("socket", defaultSocket, "the `PATH` of the daemon's socket for API servers")
	timeout := cmd.Flags().Duration("timeout", 10*time.Second, "how long to wait for the daemon")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
		defer cancel()
		var answer json.RawMessage
		if err := admin.Post(ctx, admin.Socket(*socket), admin.AuditLogHeadPath, nil, &answer); err != nil {
			return advised{err, "run this as root, on the node, while its daemon runs with auditLog.file set"}
		}
		head, err := auditlog.ParseHead(answer)
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(head.Encode())
		return err
	}
	return cmd
}

package main

import (
	"bufio"
	"errors"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/nodelock"
)

func newUnlock() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unlock",
		Short: "Unlock this node after a lockdown",
		Long: `Unlocks this node, and waits until its daemon seals and opens again, or says why it does not. It takes a reason, which the
audit log keeps. Only this node is unlocked, and nothing is undone in a key service. Exit code 0 says that all is well again, 4
that the node is unlocked and its daemon is not well, 1 that it is still locked. Run it as root.`,
		Example: "  trousseau unlock --reason 'node-1 was installed anew, ticket 4711'",
		Args:    cobra.NoArgs,
	}
	o, asJSON := addDaemon(cmd), addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.Reason == "" {
			o.Reason = askReason(cmd)
		}
		if o.Reason == "" {
			return badUsage{errors.New("unlocking takes a reason: give it with --reason")}
		}
		if err := checkReason(o.Reason); err != nil {
			return err
		}
		r := nodelock.Unlock(cmd.Context(), *o)
		if err := printReport(cmd.OutOrStdout(), r, *asJSON); err != nil {
			return err
		}
		if r.Locked {
			return advised{errors.New("this node is still locked"), "the errors above say why"}
		}
		return partly(r)
	}
	return cmd
}

// askReason asks for a reason where somebody can answer.
func askReason(cmd *cobra.Command) string {
	if !isTerminal(cmd.InOrStdin()) {
		return ""
	}
	q := questions{in: bufio.NewReader(cmd.InOrStdin()), out: cmd.ErrOrStderr()}
	return q.ask("Why is it safe to unlock", "")
}

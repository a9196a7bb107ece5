package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/nodelock"
)

// maxReason bounds a reason, in bytes: the marker and the audit log hold it whole.
const maxReason = 1000

func newLockdown() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lockdown",
		Short: "Lock this node: at once nothing is sealed or opened any more",
		Long: `Locks this node, for when somebody may be using its daemon: from the moment it is called no call is answered, the status is
bad, and what the daemon keeps of seeds in memory and on disk is wiped. A daemon that does not answer within 2 seconds is
killed. The lock lasts through restarts, reloads and reboots until "trousseau unlock". Locking twice does no harm.

It then prints what it cannot do by itself, with the commands: lock the other nodes, end the API servers, which keep what they
have opened, and stop the keys in their key services. Exit code 0 says that the node is locked in every way, 4 that it
is locked and something needs to be looked at, 1 that it is not locked. Run it as root.`,
		Example: "  trousseau lockdown --reason 'node-1 may be compromised'",
		Args:    cobra.NoArgs,
	}
	o, asJSON := addDaemon(cmd), addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkReason(o.Reason); err != nil {
			return err
		}
		r := nodelock.Lock(cmd.Context(), *o)
		if err := printReport(cmd.OutOrStdout(), r, *asJSON); err != nil {
			return err
		}
		if !r.Locked {
			return advised{errors.New("this node is NOT locked"), "stop its daemon at once; the errors above say what else is wrong"}
		}
		return partly(r)
	}
	return cmd
}

// addDaemon adds the flags that say which daemon to lock or unlock, and why.
func addDaemon(cmd *cobra.Command) *nodelock.Options {
	o := &nodelock.Options{Default: defaultSocket}
	cmd.Flags().StringVar(&o.Config, "config", defaultConfig, "the daemon's configuration, a `FILE`")
	cmd.Flags().StringVar(&o.Socket, "socket", "", "the `PATH` of the daemon's socket, where the configuration cannot be read")
	cmd.Flags().StringVar(&o.Reason, "reason", "", "why, a `TEXT` for the marker and the audit log")
	return o
}

func checkReason(reason string) error {
	if len(reason) > maxReason {
		return badUsage{fmt.Errorf("the reason has %d bytes, allowed are %d", len(reason), maxReason)}
	}
	return nil
}

func printReport(w io.Writer, r nodelock.Report, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	printFindings(w, r.Findings)
	s := styleFor(w)
	verdict := "This node is not locked."
	if r.Locked {
		verdict = "This node is locked."
	}
	fmt.Fprintf(w, "\n%s\n", s.paint(bold, verdict))
	for i, step := range r.Steps {
		fmt.Fprintf(w, "\n%s %s\n", s.paint(bold, fmt.Sprintf("To do, %d of %d:", i+1, len(r.Steps))), wrapLines(step.What, "", s.width))
		for line := range strings.Lines(step.Commands) {
			fmt.Fprintf(w, "    %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	return nil
}

// partly says by the exit code that something was printed that calls for action.
func partly(r nodelock.Report) error {
	if finding.Worst(r.Findings) >= finding.Warning {
		return errPartly
	}
	return nil
}

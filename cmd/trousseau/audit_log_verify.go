package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/auditlog"
	"github.com/trousseau-io/trousseau/internal/finding"
)

func newAuditLogVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify LOG...",
		Short: "Find lines of an audit log that were changed, removed, added or cut off",
		Long: `Reads an audit log and says which of its lines are not what the daemon wrote. LOG is the current file; the rotated ones beside it
are found, or are given too. The file LOG.state must lie beside it: it tells where the log ends. A log that is being written
may be verified in place. It needs no daemon and no configuration.

What comes after a head is proven. Without --head only form and numbers are looked at, which anybody could forge. With several
heads the log must arrive at each of them: a later one finds what somebody forged who knew an earlier one.
Warnings and errors make the exit code 3.`,
		Example: "  trousseau audit-log verify --head heads/node-1.2026-01-01 --head heads/node-1.2026-02-01 /var/lib/trousseau/audit.log",
		Args:    cobra.MinimumNArgs(1),
	}
	heads := cmd.Flags().StringArray("head", nil, "a `FILE` with a head that was exported; may be given several times")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		marks, err := readHeads(*heads)
		if err != nil {
			return err
		}
		report, err := auditlog.Verify(args, marks)
		if err != nil {
			return fmt.Errorf("verifying the audit log: %w", err)
		}
		worst := finding.Worst(report.Findings)
		if *asJSON {
			err = printJSON(cmd.OutOrStdout(), struct {
				Worst finding.Severity `json:"worst"`
				auditlog.Report
			}{worst, report})
		} else {
			printFindings(cmd.OutOrStdout(), slices.Insert(report.Findings, 0, whole(args[0], report)))
		}
		if err == nil && worst >= finding.Warning {
			return errFindings
		}
		return err
	}
	return cmd
}

func readHeads(files []string) (marks []auditlog.Mark, err error) {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading a head: %w", err)
		}
		head, err := auditlog.ParseHead(text)
		if err != nil {
			return nil, advised{fmt.Errorf("reading a head: %s is %w", file, err), "give a file with what trousseau audit-log head printed"}
		}
		marks = append(marks, auditlog.Mark{Name: file, Head: head})
	}
	return marks, nil
}

// whole says what was read and how much of it is proven.
func whole(log string, r auditlog.Report) finding.Finding {
	f := finding.Finding{Rule: "lines-proven", Severity: finding.Info, Where: log}
	f.What = fmt.Sprintf("%d of %d lines are proven to be what the daemon wrote (numbers %d to %d, in %d files)", r.Verified, r.Lines, r.First, r.Last, len(r.Files))
	if r.Verified > 0 {
		f.Severity = finding.OK
	}
	return f
}

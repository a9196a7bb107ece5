package main

import (
	"github.com/spf13/cobra"
)

// Defaults that verbs share.
const (
	defaultConfig = "/etc/trousseau/trousseaud.yaml"
	defaultSocket = "/run/trousseau/kms.sock"
)

// newRoot returns the command with all its verbs.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "trousseau",
		Short: "Set up, check and explain what protects a Kubernetes cluster's Secrets",
		Long: "trousseau is the operator's tool for trousseaud, the KMS plugin that wraps the data keys of kube-apiserver.\n\n" +
			"Start with: trousseau init",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          showHelp,
	}
	root.AddCommand(
		newInit(), newCheck(), newStatus(), newWrap(), newUnwrap(), newKeyID(), newKeystore(), newTPM(),
		newLockdown(), newUnlock(), newAuditLog(), newVersion(),
	)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveDefault)
	root.SetUsageTemplate(root.UsageTemplate() + "\n" + exitHelp + "\n")
	markFailures(root)
	return root
}

// showHelp is what a command does that only has others below it.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

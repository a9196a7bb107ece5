package main

import (
	"crypto/fips140"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/release"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

func newVersion() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print which release this is, and how it was built",
		Args:  cobra.NoArgs,
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		build := struct {
			Version       string `json:"version"`
			Go            string `json:"go"`
			Platform      string `json:"platform"`
			FIPS140       bool   `json:"fips140"`
			RuntimeSecret bool   `json:"runtimeSecret"`
		}{release.Version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, fips140.Enabled(), secretmem.Erases}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), build)
		}
		fips, erased := "off", "off: not built with GOEXPERIMENT=runtimesecret"
		if build.FIPS140 {
			fips = "on"
		}
		if build.RuntimeSecret {
			erased = "on"
		}
		return table(cmd.OutOrStdout(),
			[]any{"trousseau", build.Version},
			[]any{"Go", build.Go + " " + build.Platform},
			[]any{"FIPS 140 mode", fips},
			[]any{"runtime/secret", erased},
		)
	}
	return cmd
}

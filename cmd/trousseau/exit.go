package main

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
	"github.com/trousseau-io/trousseau/internal/kmsclient"
	"github.com/trousseau-io/trousseau/internal/setup"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// Exit codes. exitHelp says them in every help text.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitFindings = 3
	exitPartly   = 4

	exitHelp = "Exit codes: 0 done, 1 failed, 2 bad usage, 3 findings, 4 partly done."
)

// errFindings says that what was found calls for action, and was printed.
var errFindings = errors.New("there are findings")

// errPartly says that what was asked is done in part, and that the rest was printed.
var errPartly = errors.New("partly done")

// failure is an error of a verb, as opposed to one of the command line, which cobra reports.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// advised is an error with the operator's next action.
type advised struct {
	error
	hint string
}

func (a advised) Unwrap() error { return a.error }

// badUsage is an error of the command line that a verb finds by itself.
type badUsage struct{ error }

func (b badUsage) Unwrap() error { return b.error }

// judge returns the exit code for an error, and the hint to print with it, or "".
func judge(err error) (code int, hint string) {
	if _, ok := errors.AsType[badUsage](err); ok {
		return exitUsage, ""
	}
	f, ok := errors.AsType[failure](err)
	if !ok {
		return exitUsage, ""
	}
	if errors.Is(f, errFindings) {
		return exitFindings, ""
	}
	if errors.Is(f, errPartly) {
		return exitPartly, ""
	}
	return exitFailed, hintOf(f)
}

// hintOf asks each package for its own hint.
func hintOf(err error) string {
	if a, ok := errors.AsType[advised](err); ok {
		return a.hint
	}
	if e, ok := errors.AsType[*kmsclient.Error](err); ok {
		return e.Hint
	}
	if hint := keyservice.HintOf(err); hint != "" {
		return hint
	}
	if hint := keystore.Hint(err); hint != "" {
		return hint
	}
	if _, ok := errors.AsType[*strictyaml.Problems](err); ok {
		return "correct these lines; docs/configuration.md has every field"
	}
	switch {
	case errors.Is(err, setup.ErrExist):
		return "nothing was written; choose another --dir, or move these files away if nothing was ever sealed with them"
	case errors.Is(err, fs.ErrExist):
		return "nothing was overwritten; choose another name"
	case errors.Is(err, fs.ErrPermission):
		return "run this as root or as the daemon's user"
	}
	return ""
}

// markFailures makes every error that a verb returns a failure. All other errors come from cobra, and are bad usage.
func markFailures(cmd *cobra.Command) {
	if verb := cmd.RunE; verb != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := verb(cmd, args); err != nil {
				return failure{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		markFailures(sub)
	}
}

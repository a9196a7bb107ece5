package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trousseau-io/trousseau/internal/finding"
)

// addJSON adds the flag that every verb has whose output a machine may read.
func addJSON(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table prints lines of cells in columns.
func table(w io.Writer, rows ...[]any) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, cell)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// warn talks to the operator beside the output.
func warn(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), "trousseau: warning: "+format+"\n", args...)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// style is how a stream wants its text.
type style struct {
	colours bool // on terminals only, and not if NO_COLOR says otherwise (https://no-color.org)
	width   int  // of the terminal; 0 elsewhere
}

func styleFor(w io.Writer) style {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) {
		return style{}
	}
	width, _, _ := term.GetSize(int(f.Fd())) // 0 if the terminal does not tell
	return style{colours: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", width: width}
}

// SGR parameters, see ECMA-48.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
)

func (s style) paint(sgr, text string) string {
	if !s.colours {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// severity returns the padded, coloured word for a severity.
func (s style) severity(v finding.Severity) string {
	colours := map[finding.Severity]string{finding.OK: green, finding.Info: blue, finding.Warning: yellow, finding.Error: red}
	return s.paint(colours[v], fmt.Sprintf("%-7s", v))
}

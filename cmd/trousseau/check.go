package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/check"
	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/finding"
)

func newCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Look at everything a daemon needs, and say what is wrong and how to mend it",
		Long: `Looks at the configuration, the files with secrets, every key (with a live round trip), the size of envelopes, what the
policy withstands, the socket and the daemon behind it, and the EncryptionConfiguration. Everything is reported at once.
Nothing is changed. Run it as the daemon's user, or as root, before the first start and after every change.

A daemon that does not run is worth a note. It is an error where its socket is left behind, or was given with --socket.
Warnings and errors make the exit code 3.

With the sockets of all control plane nodes, --socket for each, it also finds out whether every node opens what each listed
policy seals, so that the policy may be put first, and what every node seals now. docs/operate/several-keys.md tells how to
reach the sockets of other nodes.`,
		Example: "  trousseau check\n" +
			"  trousseau check --socket /run/trousseau/kms.sock --socket /run/nodes/node2.sock --socket /run/nodes/node3.sock",
		Args: cobra.NoArgs,
	}
	var o check.Options
	flags := cmd.Flags()
	flags.StringVar(&o.Config, "config", defaultConfig, "the daemon's configuration, a `FILE`")
	flags.StringArrayVar(&o.Sockets, "socket", nil, "the `PATH` of a socket where a daemon must answer, once for each node (default: the configuration's, if it is there)")
	flags.StringVar(&o.EncryptionConfig, "encryption-config", "", "the EncryptionConfiguration of kube-apiserver, a `FILE`")
	flags.DurationVar(&o.Timeout, "timeout", 10*time.Second, "how long to wait for each answer of a key service or the daemon")
	policy := flags.Bool("print-policy", false, "only print the least policy that each key service must grant, and look at nothing")
	asJSON := addJSON(cmd)
	cmd.MarkFlagsMutuallyExclusive("print-policy", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *policy {
			return printPolicy(cmd, o.Config)
		}
		if once := slices.Compact(slices.Sorted(slices.Values(o.Sockets))); len(once) < len(o.Sockets) {
			return badUsage{errors.New("a --socket is given twice: give one for each node")}
		}
		found := check.Run(cmd.Context(), o, slog.New(slog.DiscardHandler))
		if err := cmd.Context().Err(); err != nil {
			return errors.New("interrupted")
		}
		worst := finding.Worst(found)
		if *asJSON {
			err := printJSON(cmd.OutOrStdout(), struct {
				Worst    finding.Severity  `json:"worst"`
				Findings []finding.Finding `json:"findings"`
			}{worst, found})
			if err != nil {
				return err
			}
		} else {
			printFindings(cmd.OutOrStdout(), found)
		}
		if worst >= finding.Warning {
			return errFindings
		}
		return nil
	}
	return cmd
}

func printPolicy(cmd *cobra.Command, path string) error {
	d, err := config.Load(path)
	if err != nil {
		return err
	}
	policies := check.LeastPolicies(d)
	if policies == "" {
		return advised{errors.New("no key is in a service with policies of its own"), "nothing needs to be granted for local keys"}
	}
	_, err = io.WriteString(cmd.OutOrStdout(), policies)
	return err
}

// printFindings groups findings by what they are about, in the order in which they came up, and ends with a summary.
func printFindings(w io.Writer, found []finding.Finding) {
	s := styleFor(w)
	var places []string
	at := make(map[string][]finding.Finding)
	count := make(map[finding.Severity]int)
	for _, f := range found {
		if at[f.Where] == nil {
			places = append(places, f.Where)
		}
		at[f.Where] = append(at[f.Where], f)
		count[f.Severity]++
	}
	for _, place := range places {
		fmt.Fprintln(w, s.paint(bold, place))
		for _, f := range at[place] {
			printFinding(w, s, f)
		}
	}
	fmt.Fprintf(w, "\n%s\n", summary(s, count))
}

func printFinding(w io.Writer, s style, f finding.Finding) {
	const indent = "           "
	what := f.What
	if f.Severity >= finding.Warning {
		tag := "[" + f.Rule + "]"
		what = strings.Replace(wrapLines(what+" "+tag, indent, s.width), tag, s.paint(dim, tag), 1)
	} else {
		what = wrapLines(what, indent, s.width)
	}
	fmt.Fprintf(w, "  %s  %s\n", s.severity(f.Severity), what)
	if f.Fix != "" {
		fmt.Fprintf(w, "%s%s %s\n", indent, s.paint(bold, "fix:"), strings.ReplaceAll(f.Fix, "\n", "\n"+indent))
	}
}

// wrapLines breaks a text for a terminal of a width. Elsewhere lines stay whole, for grep. So do fixes everywhere: they
// hold commands to copy.
func wrapLines(text, indent string, width int) string {
	width -= len(indent)
	if width < 40 {
		return text
	}
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		switch n := utf8.RuneCountInString(word); {
		case column == 0:
			column = n
		case column+1+n > width:
			b.WriteString("\n" + indent)
			column = n
		default:
			b.WriteByte(' ')
			column += 1 + n
		}
		b.WriteString(word)
	}
	return b.String()
}

func summary(s style, count map[finding.Severity]int) string {
	var parts []string
	add := func(severity finding.Severity, one, many, sgr string) {
		switch n := count[severity]; {
		case n == 1:
			parts = append(parts, s.paint(sgr, "1 "+one))
		case n > 1:
			parts = append(parts, s.paint(sgr, fmt.Sprintf("%d %s", n, many)))
		}
	}
	add(finding.Error, "error", "errors", red)
	add(finding.Warning, "warning", "warnings", yellow)
	if parts == nil {
		parts = append(parts, s.paint(green, "nothing to mend"))
	}
	add(finding.Info, "note", "notes", blue)
	add(finding.OK, "thing in order", "things in order", green)
	return strings.Join(parts, ", ")
}

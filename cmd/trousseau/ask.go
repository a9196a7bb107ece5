package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trousseau-io/trousseau/internal/setup"
)

// ask asks for what the flags do not say.
func (f *initFlags) ask(cmd *cobra.Command) error {
	q := questions{in: bufio.NewReader(cmd.InOrStdin()), out: cmd.ErrOrStderr()}
	if f.cluster == "" {
		f.cluster = q.ask("Name of the cluster, such as prod-eu-1", "")
	}
	if f.local || f.services != nil {
		return q.err
	}
	service := q.choose("Where is the key", append([]string{"local"}, setup.Services()...)...)
	if service == "local" {
		f.local = true
		return q.err
	}
	f.services = []string{service}
	asked := setup.Ask(service, setup.Questions{
		Text:   func(field string) string { return q.ask(service+"."+field, "") },
		Choose: func(what string, fields []string) string { return q.choose("Which "+what, fields...) },
	})
	for _, s := range asked {
		f.settings = append(f.settings, setting{text: s.Path + "=" + s.Value})
	}
	if setup.WantsLocal(service) {
		fmt.Fprintf(q.out, "A second key, in a keystore on the nodes, is recommended: who takes over %s alone then opens nothing.\n", service)
		f.local = q.choose("Make it", "yes", "no") == "yes"
	}
	return q.err
}

// questions asks on a terminal until it gets an answer. After an error it answers everything with "".
type questions struct {
	in  *bufio.Reader
	out io.Writer
	err error
}

// ask returns the answer, or fallback, if there is one, for an empty one.
func (q *questions) ask(question, fallback string) string {
	if fallback != "" {
		question += " [" + fallback + "]"
	}
	for q.err == nil {
		fmt.Fprintf(q.out, "%s: ", question)
		line, err := q.in.ReadString('\n')
		if answer := strings.TrimSpace(line); answer != "" {
			return answer
		}
		if err != nil {
			q.err = advised{errors.New("the questions were not answered, nothing was written"), "give flags instead: see trousseau init --help"}
			return ""
		}
		if fallback != "" {
			return fallback
		}
	}
	return ""
}

// choose returns one of the options, the first of which is the default.
func (q *questions) choose(question string, options ...string) string {
	for q.err == nil {
		answer := q.ask(fmt.Sprintf("%s (%s)", question, strings.Join(options, ", ")), options[0])
		for _, option := range options {
			if answer == option {
				return option
			}
		}
		if q.err == nil {
			fmt.Fprintf(q.out, "Please answer %s.\n", strings.Join(options, " or "))
		}
	}
	return ""
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// ask asks for what the flags do not say.
func (f *initFlags) ask(cmd *cobra.Command) error {
	q := questions{in: bufio.NewReader(cmd.InOrStdin()), out: cmd.ErrOrStderr()}
	if f.cluster == "" {
		f.cluster = q.ask("Name of the cluster, such as prod-eu-1", "")
	}
	if !f.local && !f.vault() {
		if q.choose("Where is the key", "local", "vault") == "local" {
			f.local = true
		} else {
			f.addresses = strings.Fields(strings.ReplaceAll(q.ask("Addresses of Vault or OpenBao, such as https://vault-1:8200", ""), ",", " "))
		}
	}
	if f.vault() {
		f.askVault(&q)
	}
	return q.err
}

func (f *initFlags) askVault(q *questions) {
	if f.key == "" {
		f.key = q.ask("Name of the transit key", "k8s")
	}
	if f.tokenFile != "" || f.roleID != "" {
		return
	}
	if q.choose("Log in with", "approle", "token") == "token" {
		f.tokenFile = q.ask("File with the token", "/etc/trousseau/token")
		return
	}
	f.roleID = q.ask("Role id", "")
	f.secretIDFile = q.ask("File with the secret id", "/etc/trousseau/secret-id")
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

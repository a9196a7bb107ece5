package main_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/cli.md")

// TestManual compares docs/cli.md with the help texts that it is made of.
func TestManual(t *testing.T) {
	const path = "../../docs/cli.md"
	var manual bytes.Buffer
	manual.WriteString("<!-- Made from the help texts by: go test ./cmd/trousseau -run Manual -update -->\n\n# The operator's tool\n")
	describe(t, filepath.Join(build(t), "trousseau"), &manual)
	if *update {
		if err := os.WriteFile(path, manual.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, manual.Bytes()) {
		t.Error("docs/cli.md is not what the help texts say: run go test ./cmd/trousseau -run Manual -update")
	}
}

// subcommand finds the commands that a help text lists.
var subcommand = regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`)

// describe writes the help text of a command and of those below it.
func describe(t *testing.T, program string, manual *bytes.Buffer, verbs ...string) {
	t.Helper()
	help, err := exec.CommandContext(t.Context(), program, append(verbs, "--help")...).Output()
	if err != nil {
		t.Fatalf("asking %q for help: %v", verbs, err)
	}
	fmt.Fprintf(manual, "\n## `%s`\n\n```\n%s```\n", strings.Join(append([]string{"trousseau"}, verbs...), " "), help)
	_, list, found := strings.Cut(string(help), "Available Commands:\n")
	if !found {
		return
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for _, match := range subcommand.FindAllStringSubmatch(list, -1) {
		if match[1] != "help" && match[1] != "completion" {
			describe(t, program, manual, append(verbs, match[1])...)
		}
	}
}

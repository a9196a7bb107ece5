// Package perf measures trousseaud beside the calls that it makes, in one run on one machine: "make bench".
//
// It is a benchmark and not a test because machines are noisy: it prints what it saw beside the target and fails for no
// number. docs/performance.md has a run with its date, and the reasons for what was missed.
package perf_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// BenchmarkTable runs everything once, whatever b.N is: its parts have loops of their own. -bench Table/several runs one part.
func BenchmarkTable(b *testing.B) {
	t := &table{load: strings.Fields(read("/proc/loadavg"))[0]}
	v := startVault(b)
	for _, part := range []struct {
		name    string
		measure func(*testing.B, *table, *vault)
	}{
		{"latencies", latencies}, {"status", status}, {"stored", stored}, {"throughput", throughput}, {"several", several},
		{"memory", memory}, {"readiness", readiness}, {"services", services},
	} {
		b.Run(part.name, func(b *testing.B) { part.measure(b, t, v) })
	}
	t.print(v.version(b))
}

// table is what was measured, row by row.
type table struct {
	load string // of the machine, over the last minute, before anything began
	rows [][4]string
}

// add notes a measurement; met is nil where there is no target.
func (t *table) add(what, measured, target string, met *bool) {
	verdict := ""
	if met != nil {
		verdict = map[bool]string{true: "met", false: "MISSED"}[*met]
	}
	t.rows = append(t.rows, [4]string{what, measured, target, verdict})
}

func (t *table) print(vault string) {
	fmt.Printf("\n%s, %s, Linux %s, %s, %d cores, load before %s, Vault %s\n\n", time.Now().UTC().Format(time.DateOnly), runtime.Version(),
		output("uname", "-r"), cpu(), runtime.NumCPU(), t.load, vault)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(out, "| what\t| measured\t| target\t| \t|\n|---\t|---\t|---\t|---\t|")
	for _, row := range t.rows {
		fmt.Fprintf(out, "| %s\t| %s\t| %s\t| %s\t|\n", row[0], row[1], row[2], row[3])
	}
	out.Flush()
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func read(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return string(content)
}

func cpu() string {
	for line := range strings.Lines(read("/proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

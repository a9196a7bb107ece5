package daemon_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The manual lists every metric that there is, and no other.
func TestManualListsAllMetrics(t *testing.T) {
	n := newNode(t)
	n.start(t)
	v2, _ := n.dial(t)
	seal(t, v2)
	_, shown := n.get("/metrics")
	manual, err := os.ReadFile("../../docs/operate/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	names := func(pattern, text string) []string {
		var found []string
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found = append(found, match[1])
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	is := names(`(?m)^# TYPE (trousseau_\w+) `, shown)
	said := names("(?m)^\\| `(trousseau_\\w+)` \\|", string(manual))
	if strings.Join(is, "\n") != strings.Join(said, "\n") {
		t.Errorf("shown:\n%s\n\nin docs/operate/metrics.md:\n%s", strings.Join(is, "\n"), strings.Join(said, "\n"))
	}
}

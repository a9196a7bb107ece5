package check_test

import (
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/finding"
)

func TestWhatIsKeptIsTold(t *testing.T) {
	const more = `stateDir: DIR
status: {outage: grace}
cache: {seeds: 100}
coldStart: {sealedBy: disk, seeds: 200}
`
	s := newSite(t)
	found := s.check(t, disk+more)
	for rule, severity := range map[string]finding.Severity{"cache": finding.Info, "cold-start": finding.Info, "cold-start-seeds": finding.Warning} {
		if f, ok := find(found, rule); !ok || f.Severity != severity {
			t.Errorf("%s: %+v", rule, f)
		}
	}
	if f, _ := find(found, "cold-start-seeds"); !strings.Contains(f.What, "up to 200 seeds") || !strings.Contains(f.What, "without any key service") || f.Fix == "" {
		t.Errorf("not said what it costs: %+v", f)
	}
	if f, ok := find(found, "cold-start-unsealed"); ok {
		t.Errorf("%+v", f)
	}
	unsealed := strings.Replace(disk, "keyFile: DIR/secret", "unsealed: true", 1)
	if f, ok := find(s.check(t, unsealed+more), "cold-start-unsealed"); !ok || f.Severity != finding.Error || f.Fix == "" {
		t.Errorf("%+v", f)
	}
	for _, rule := range []string{"cache", "cold-start", "cold-start-seeds"} {
		if f, ok := find(s.check(t, disk), rule); ok {
			t.Errorf("nothing is kept: %+v", f)
		}
	}
}

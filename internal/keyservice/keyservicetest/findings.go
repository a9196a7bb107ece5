package keyservicetest

import (
	"slices"
	"testing"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Inspect returns what the key finds in its own settings. Each finding must say where and what; what is a warning or worse,
// also what to do.
func Inspect(t testing.TB, key keyservice.Inspector) []finding.Finding {
	t.Helper()
	found, err := key.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Severity >= finding.Warning && f.Fix == "" {
			t.Errorf("%s has no fix", f.Rule)
		}
		if f.Where == "" || f.What == "" {
			t.Errorf("%+v says too little", f)
		}
	}
	return found
}

// Find returns the finding of a rule among those of Inspect, or the zero Finding.
func Find(t testing.TB, key keyservice.Inspector, rule string) finding.Finding {
	t.Helper()
	found := Inspect(t, key)
	if i := slices.IndexFunc(found, func(f finding.Finding) bool { return f.Rule == rule }); i >= 0 {
		return found[i]
	}
	return finding.Finding{}
}

// Rules returns the rules of the findings, sorted, but for those that are left out.
func Rules(found []finding.Finding, without ...string) (rules []string) {
	for _, f := range found {
		if !slices.Contains(without, f.Rule) {
			rules = append(rules, f.Rule)
		}
	}
	slices.Sort(rules)
	return rules
}

package auditlog_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/trousseau-io/trousseau/internal/auditlog"
	"github.com/trousseau-io/trousseau/internal/finding"
)

const vectors = "../../testdata/vectors/auditlog/"

func vectorHead(t *testing.T, name string) auditlog.Mark {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(vectors, name))
	if err != nil {
		t.Fatal(err)
	}
	head, err := auditlog.ParseHead(text)
	if err != nil {
		t.Fatal(err)
	}
	return auditlog.Mark{Name: name, Head: head}
}

// TestVectors verifies logs that another implementation wrote.
func TestVectors(t *testing.T) {
	for _, test := range []struct {
		log, head string
		proven    int
		rule      string // of the first error, "" for none
	}{
		{"audit.log", "head-1.json", 5, ""},
		{"audit.log", "head-4.json", 2, ""},
		{"cut.log", "head-1.json", 3, "lines-cut-off"},
		{"changed.log", "head-1.json", 4, "line-changed"},
	} {
		report := verify(t, vectors+test.log, vectorHead(t, test.head))
		rule := ""
		if at := slices.IndexFunc(report.Findings, func(f finding.Finding) bool { return f.Severity == finding.Error }); at >= 0 {
			rule = report.Findings[at].Rule
		}
		if report.Verified != uint64(test.proven) || rule != test.rule {
			t.Errorf("%s from %s: %d lines proven, found %q %v", test.log, test.head, report.Verified, rule, report.Findings)
		}
	}
}

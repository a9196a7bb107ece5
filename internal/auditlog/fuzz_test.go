package auditlog_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/auditlog"
	"github.com/trousseau-io/trousseau/internal/finding"
)

// FuzzVerify gives any bytes for a log: none but those that the log wrote after the head are in order.
func FuzzVerify(f *testing.F) {
	cfg := config(f)
	log := open(f, cfg)
	head := export(f, log)
	add(f, log, 4)
	log.Close()
	whole := read(f, cfg.Path)
	state, err := auditlog.ParseHead([]byte(read(f, cfg.Path+".state")))
	if err != nil {
		f.Fatal(err)
	}
	first, proven, _ := strings.Cut(whole, "\n")
	for _, seed := range []string{
		whole, proven, whole[:len(whole)/2], first + "\n" + first + "\n" + proven, strings.ReplaceAll(whole, `"seq":4`, `"seq":99999`),
		strings.Replace(whole, "\n", `,"after":"`, 2),
	} {
		f.Add(seed)
	}
	long := regexp.MustCompile(`\d{6}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, at := range strings.SplitAfter(text, `"seq":`)[1:] {
			if where := long.FindStringIndex(at); where != nil && where[0] < 8 {
				t.Skip() // so many missing lines take seconds
			}
		}
		report, err := auditlog.VerifyText(text, head, state)
		if err != nil {
			t.Fatal(err)
		}
		if finding.Worst(report.Findings) < finding.Warning && !strings.HasSuffix(text, proven) {
			t.Errorf("in order: %q", text)
		}
	})
}

// FuzzParseHead gives any bytes for a head.
func FuzzParseHead(f *testing.F) {
	log := open(f, config(f))
	f.Add(export(f, log).Head.Encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		head, err := auditlog.ParseHead(text)
		if err != nil {
			return
		}
		if back, err := auditlog.ParseHead(head.Encode()); err != nil || back != head {
			t.Errorf("%v, %v", back, err)
		}
	})
}

package check_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/finding"
)

func TestDirectoriesThatTheDaemonWritesTo(t *testing.T) {
	s := newSite(t)
	s.write(t, "file", "")
	s.makeDir(t, "open", 0o777)
	s.makeDir(t, "right", 0o700)
	for dir, severity := range map[string]finding.Severity{"right": finding.OK, "missing": finding.Error, "file": finding.Error, "open": finding.Error} {
		found := s.check(t, disk+"stateDir: DIR/"+dir+"\nauditLog: {file: DIR/"+dir+"/audit.log}\n")
		for _, rule := range []string{"state-directory", "audit-log-directory"} {
			if f, ok := find(found, rule); !ok || f.Severity != severity || severity == finding.Error && f.Fix == "" {
				t.Errorf("%s: %+v", dir, f)
			}
		}
	}
}

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

func (s site) makeDir(t *testing.T, name string, mode fs.FileMode) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.Mkdir(path, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

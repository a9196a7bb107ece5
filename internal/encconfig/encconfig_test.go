package encconfig_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/encconfig"
	"github.com/trousseau-io/trousseau/internal/finding"
)

const socket = "/run/trousseau/kms.sock"

// TestGenerated lets the API server's own loader judge what Generate makes.
func TestGenerated(t *testing.T) {
	for name, o := range map[string]encconfig.Options{
		"the least":            {Socket: socket},
		"several resources":    {Socket: socket, Resources: []string{"secrets", "configmaps", "widgets.example.com"}, Timeout: time.Second},
		"a path to be escaped": {Socket: `/run/a "b": #c/kms.sock`},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := encconfig.Generate(o)
			if err != nil {
				t.Fatal(err)
			}
			path := write(t, string(text))
			config, err := encconfig.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			providers := config.Resources[0].Providers
			kms := providers[0].KMS
			if kms == nil || kms.APIVersion != "v2" || kms.Endpoint != "unix://"+o.Socket || len(providers) != 2 || providers[1].Identity == nil {
				t.Errorf("got %+v", providers)
			}
			if found := encconfig.Inspect(path, o.Socket); finding.Worst(found) != finding.OK {
				t.Errorf("found %+v", found)
			}
		})
	}
}

func TestGenerateRefusesWhatTheAPIServerRefuses(t *testing.T) {
	for _, resource := range []string{"Secrets", "*.events.k8s.io", "secrets\n  - *.*"} {
		if text, err := encconfig.Generate(encconfig.Options{Socket: socket, Resources: []string{resource}}); err == nil {
			t.Errorf("%q was taken:\n%s", resource, text)
		}
	}
}

// TestInspect changes one thing in a good file and wants the finding for it.
func TestInspect(t *testing.T) {
	good, err := encconfig.Generate(encconfig.Options{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	const kms = "  - kms:\n      apiVersion: v2\n      name: trousseau # stored in front of each value: do not change it\n" +
		"      endpoint: \"unix:///run/trousseau/kms.sock\"\n      timeout: 3s\n"
	if !strings.Contains(string(good), kms) {
		t.Fatalf("the test does not know this text:\n%s", good)
	}
	for _, test := range []struct{ name, old, new, rule string }{
		{"identity first", kms, "  - identity: {}\n" + kms, "encryption-config-identity-first"},
		{"another provider first", kms, "  - secretbox: {keys: [{name: a, secret: 8bEN42vvNaF6XvqJE5fBu3MqSDqpfCN2CdX3PBmfjQM=}]}\n" + kms,
			"encryption-config-not-first"},
		{"apiVersion forgotten", "      apiVersion: v2\n", "", "encryption-config-refused"},
		{"another socket", "kms.sock", "other.sock", "encryption-config-other-endpoint"},
		{"not secrets", "- secrets", "- configmaps", "encryption-config-no-secrets"},
		{"unknown field", "timeout: 3s", "timeOut: 3s", "encryption-config-refused"},
		{"cache size with v2", "timeout: 3s", "cachesize: 10", "encryption-config-refused"},
		{"a resource that is masked", "- secrets\n", "- secrets\n  - '*.*'\n", "encryption-config-refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(string(good), test.old, test.new, 1)
			if text == string(good) {
				t.Fatal("nothing was changed")
			}
			found := encconfig.Inspect(write(t, text), socket)
			for _, f := range found {
				if f.Rule == test.rule && f.Severity >= finding.Warning && f.Fix != "" {
					return
				}
			}
			t.Errorf("found %+v", found)
		})
	}
}

func TestInspectMissingAndEmpty(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "none.yaml"), write(t, "")} {
		if found := encconfig.Inspect(path, socket); finding.Worst(found) != finding.Error {
			t.Errorf("found %+v", found)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "encryption-config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

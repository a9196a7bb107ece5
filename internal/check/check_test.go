package check_test

import (
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/check"
	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/finding"
)

// site is a directory with a keystore that was made long ago, its secret and a configuration.
type site struct {
	dir string
}

func newSite(t *testing.T) site {
	t.Helper()
	data, err := os.ReadFile("../../testdata/vectors/keystore/key-three-states.json")
	if err != nil {
		t.Fatal(err)
	}
	var vector struct{ Secret, File string }
	if err := json.Unmarshal(data, &vector); err != nil {
		t.Fatal(err)
	}
	file, err := hex.DecodeString(vector.File)
	if err != nil {
		t.Fatal(err)
	}
	s := site{t.TempDir()}
	s.write(t, "keystore", string(file))
	s.write(t, "secret", vector.Secret)
	return s
}

func (s site) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// document is a configuration whose lines after the socket are given, with DIR for the site's directory.
func (s site) document(lines string) string {
	return strings.ReplaceAll(`apiVersion: trousseau.io/v1
kind: DaemonConfiguration
cluster: {name: lab, lineage: "7f3c0a9e5d1b4c86a2e8f0937b6d5c41"}
socket: {path: DIR/kms.sock}
`+lines, "DIR", s.dir)
}

// check runs over such a configuration.
func (s site) check(t *testing.T, lines string) []finding.Finding {
	t.Helper()
	s.write(t, "trousseaud.yaml", s.document(lines))
	o := check.Options{Config: filepath.Join(s.dir, "trousseaud.yaml"), Timeout: 5 * time.Second}
	return check.Run(t.Context(), o, slog.New(slog.DiscardHandler))
}

// disk is a key in the site's keystore.
const disk = "keys:\n- {name: disk, local: {keystore: DIR/keystore, keyFile: DIR/secret}}\n"

// find returns the finding of a rule.
func find(found []finding.Finding, rule string) (finding.Finding, bool) {
	for _, f := range found {
		if f.Rule == rule {
			return f, true
		}
	}
	return finding.Finding{}, false
}

func TestVersions(t *testing.T) {
	s := newSite(t)
	found := s.check(t, disk)
	if f, ok := find(found, "key-versions"); !ok || !strings.Contains(f.What, "newest version t0QDZAvziZWp") || !strings.Contains(f.What, "before it b8wF5ga0PxLt") {
		t.Errorf("got %+v", found)
	}
	if f, ok := find(found, "key-old"); !ok || f.Severity != finding.Info {
		t.Errorf("got %+v", found)
	}
	if _, ok := find(found, "key-pinned"); ok {
		t.Errorf("got %+v", found)
	}
	if f, ok := find(found, "envelope-size"); !ok || !strings.Contains(f.What, "takes 144 of the 1024 bytes") {
		t.Errorf("got %+v", found)
	}
}

// TestPinned pins a version that only opens: wrapping with it must fail here, as it would in the daemon.
func TestPinned(t *testing.T) {
	found := newSite(t).check(t, strings.Replace(disk, "}}", "}, version: b8wF5ga0PxLt}", 1))
	if _, ok := find(found, "key-pinned"); !ok {
		t.Errorf("got %+v", found)
	}
	if f, ok := find(found, "key-round-trip"); !ok || f.Severity != finding.Error || f.Fix == "" {
		t.Errorf("got %+v", found)
	}
}

// TestEveryProblemHasItsFix holds for all that is found at a site where nothing is right.
func TestEveryProblemHasItsFix(t *testing.T) {
	s := newSite(t)
	s.write(t, "keystore", "trk1")
	if err := os.Chmod(filepath.Join(s.dir, "secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.write(t, "kms.sock", "no socket")
	found := s.check(t, disk)
	rules := map[string]bool{"credential": false, "key-open": false, "daemon": false}
	for _, f := range found {
		if f.Severity >= finding.Warning && f.Fix == "" {
			t.Errorf("no fix: %+v", f)
		}
		if f.Severity == finding.Error {
			rules[f.Rule] = true
		}
	}
	for rule, seen := range rules {
		if !seen {
			t.Errorf("%s is not among %+v", rule, found)
		}
	}
}

// TestSystemdCredential is passed to the daemon's unit alone, so its absence here proves nothing.
func TestSystemdCredential(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	found := newSite(t).check(t, strings.Replace(disk, "DIR/secret", "systemd:secret", 1))
	if f, ok := find(found, "credential-systemd"); !ok || f.Severity != finding.Warning || !strings.Contains(f.Fix, "LoadCredential") {
		t.Errorf("got %+v", found)
	}
}

// TestOutageInWords wants each choice of status.outage to be told for a key in a remote service.
func TestOutageInWords(t *testing.T) {
	for status, words := range map[string]string{
		"{outage: fail-closed}":       "writes stop 3 minutes later (status.outage: fail-closed)",
		"{outage: grace, grace: 10m}": "they write on for 10m0s, then",
		"{outage: fail-open}":         "they write on as well",
	} {
		found := newSite(t).check(t, `keys: [{name: bao, vault: {addresses: ["http://127.0.0.1:9"], key: k8s, auth: {tokenFile: DIR/secret}}}]
status: `+status)
		if f, ok := find(found, "policy"); !ok || !strings.Contains(f.What, words) {
			t.Errorf("%s: %+v", status, f)
		}
	}
}

// TestSeveralKeys wants a policy to be told in words, and a key that only wraps not to be asked to open.
func TestSeveralKeys(t *testing.T) {
	const recipient = "age1tkxva7ddqe8499td0r5lt0acma4wusqtpwdytlcg7rlzwc5mkcwsakf59g"
	found := newSite(t).check(t, `keys:
- {name: disk, local: {keystore: DIR/keystore, keyFile: DIR/secret}}
- {name: copy, id: copy, local: {keystore: DIR/keystore, keyFile: DIR/secret}}
- {name: people, escrow: {recipients: [`+recipient+`]}}
policies:
- {keys: [disk, copy, people], need: 1, write: {atLeast: 2}}
- {keys: [disk, copy, people], need: 2}
`)
	var policies []string
	for _, f := range found {
		if f.Rule == "policy" || f.Rule == "policy-unauthenticated" {
			policies = append(policies, f.Where+": "+f.What)
		}
		if f.Severity == finding.Error {
			t.Errorf("%+v", f)
		}
	}
	for i, words := range [][]string{
		{"1 of 3 with disk, copy, people", "people only wraps", "Reading goes on with any 1 key away", "With any 2 keys away, no API server can start",
			"a change of key is made, with any 1 key away", "takes over any one of them"},
		{"policy 1: 1 of its keys wrap with public keys (people), and 1 open"},
		{"2 of 3 with", "Reading goes on with no key away", "With any 1 key away, no API server", "is made, with no key away", "who takes over fewer learns nothing"},
	} {
		for _, word := range words {
			if i >= len(policies) || !strings.Contains(policies[i], word) {
				t.Errorf("%q is not in finding %d of %q", word, i, policies)
			}
		}
	}
}

func TestLeastPolicies(t *testing.T) {
	d, err := config.Parse("test", []byte(`apiVersion: trousseau.io/v1
kind: DaemonConfiguration
cluster: {name: lab, lineage: "7f3c0a9e5d1b4c86a2e8f0937b6d5c41"}
keys:
- {name: a, vault: {addresses: ["https://a:8200"], key: first, auth: {tokenFile: /token}}}
- {name: b, vault: {addresses: ["https://b:8200"], key: second, auth: {tokenFile: /token}}}
- {name: disk, local: {keystore: /keystore, unsealed: true}}
policies: [{keys: [a]}, {keys: [b]}, {keys: [disk]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	text := check.LeastPolicies(d)
	if !strings.Contains(text, `"transit/encrypt/first"`) || !strings.Contains(text, `"transit/encrypt/second"`) {
		t.Errorf("got %s", text)
	}
}

func TestLockedNode(t *testing.T) {
	for _, lines := range []string{disk, "keys: wrong\n"} {
		s := newSite(t)
		s.write(t, "trousseaud.yaml.lockdown", "")
		if f, ok := find(s.check(t, lines), "node-locked"); !ok || f.Severity != finding.Error || !strings.Contains(f.Fix, "trousseau unlock") {
			t.Errorf("%s: %+v", lines, f)
		}
	}
	s := newSite(t)
	if f, ok := find(s.check(t, disk), "node-locked"); ok {
		t.Errorf("not locked: %+v", f)
	}
}

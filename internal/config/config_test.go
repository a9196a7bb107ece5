package config_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/keyservice/all"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

var update = flag.Bool("update", false, "write the golden files")

// TestBadDocuments parses each document of testdata/bad, which is named after what is wrong with it, and compares the
// error with the golden text beside it.
func TestBadDocuments(t *testing.T) {
	for name, data := range documents(t, "testdata/bad") {
		t.Run(name, func(t *testing.T) {
			d, err := config.Parse(name+".yaml", data)
			if _, ok := errors.AsType[*strictyaml.Problems](err); !ok || d != nil {
				t.Fatalf("got %+v and the error %T %[2]v", d, err)
			}
			golden := filepath.Join("testdata/bad", name+".txt")
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestGoodDocuments parses each document of testdata/good, and again after writing it out: the values that were filled
// in are values that could have been written.
func TestGoodDocuments(t *testing.T) {
	for name, data := range documents(t, "testdata/good") {
		t.Run(name, func(t *testing.T) { again(t, parse(t, name, data)) })
	}
}

// TestExamples parses the examples that operators copy: there is one for each key service.
func TestExamples(t *testing.T) {
	examples := documents(t, "../../deploy/examples")
	for _, d := range all.Descriptions() {
		data, there := examples[d.Name]
		if !there {
			t.Errorf("deploy/examples/%s.yaml is missing", d.Name)
			continue
		}
		uses := func(k config.Key) bool { return k.Type() == d.Name }
		if c := parse(t, d.Name, data); !slices.ContainsFunc(c.Keys, uses) {
			t.Errorf("deploy/examples/%s.yaml has no key of this key service", d.Name)
		}
		delete(examples, d.Name)
	}
	for name := range examples {
		t.Errorf("deploy/examples/%s.yaml is for no key service", name)
	}
}

func again(t *testing.T, first *config.Daemon) {
	t.Helper()
	var doc yaml.Node
	if err := doc.Encode(first); err != nil {
		t.Fatal(err)
	}
	prune(&doc)
	written, err := yaml.Marshal(&doc)
	if err != nil {
		t.Fatal(err)
	}
	second, err := config.Parse("written", written)
	if err != nil {
		t.Fatalf("writing the document out made it wrong: %v\n%s", err, written)
	}
	if !reflect.DeepEqual(first, second) {
		t.Errorf("first  %+v\nsecond %+v", first, second)
	}
}

// prune removes the fields that are null or empty text, which nobody writes and the daemon refuses.
func prune(n *yaml.Node) {
	var kept []*yaml.Node
	for i, child := range n.Content {
		prune(child)
		if n.Kind != yaml.MappingNode {
			kept = append(kept, child)
		} else if i%2 == 1 && child.Tag != "!!null" && !(child.Kind == yaml.ScalarNode && child.Value == "") {
			kept = append(kept, n.Content[i-1], child)
		}
	}
	n.Content = kept
}

func documents(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents in %s: %v", dir, err)
	}
	all := make(map[string][]byte)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".yaml")] = data
	}
	return all
}

func parse(t testing.TB, name string, data []byte) *config.Daemon {
	t.Helper()
	d, err := config.Parse(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWhatTheDocumentLeavesOpenIsFilledIn(t *testing.T) {
	good := documents(t, "testdata/good")
	d := parse(t, "smallest", good["smallest"])
	if got, want := d.Keys[0].ID, "local"; got != want {
		t.Errorf("id %q, want %q", got, want)
	}
	if got, want := d.Policies, []config.Policy{{Keys: []string{"disk"}, Need: 1, Write: config.Write{AtLeast: 1}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("policies %+v, want %+v", got, want)
	}
	wantSocket := config.Socket{Path: "/run/trousseau/kms.sock", Mode: 0o600, MaxCalls: 64}
	if !reflect.DeepEqual(d.Socket, wantSocket) {
		t.Errorf("socket %+v, want %+v", d.Socket, wantSocket)
	}
	wantStatus := config.Status{
		Outage: config.FailClosed, ProbeInterval: 30 * time.Second, ActivationDelay: 2 * time.Minute,
	}
	if d.Status != wantStatus {
		t.Errorf("status %+v, want %+v", d.Status, wantStatus)
	}
	if want := (config.Observe{Listen: "127.0.0.1:8095", Log: "text", Level: "info", OpensPerMinute: 100}); d.Observe != want {
		t.Errorf("observe %+v, want %+v", d.Observe, want)
	}
	if want := (config.AuditLog{WhenFull: config.Block, MaxMiB: 64, Keep: 8}); d.AuditLog != want {
		t.Errorf("audit log %+v, want %+v", d.AuditLog, want)
	}
	if d.DisableV1beta1 || d.FormerClusters != nil {
		t.Errorf("got %+v", d)
	}
	if got := d.Cluster.Lineage.String(); got != "7f3c0a9e5d1b4c86a2e8f0937b6d5c41" {
		t.Errorf("lineage %s", got)
	}
	d = parse(t, "both", good["two-keys-both-needed"])
	want := []config.Policy{{Keys: []string{"disk", "bao"}, Need: 2, Write: config.Write{AtLeast: 2}}}
	if !reflect.DeepEqual(d.Policies, want) {
		t.Errorf("policies %+v, want %+v", d.Policies, want)
	}
	d = parse(t, "grace", good["outage-grace-without-a-time"])
	if d.Status.Grace != 30*time.Minute {
		t.Errorf("grace %s, want 30m", d.Status.Grace)
	}
}

func TestEverythingIsTakenOver(t *testing.T) {
	d := parse(t, "everything", documents(t, "testdata/good")["everything"])
	if d.Socket.Mode != 0o660 || d.Socket.Group != "kube-apiserver" || d.Socket.MaxCalls != 128 ||
		!reflect.DeepEqual(d.Socket.AllowUIDs, []uint32{0, 64535}) {
		t.Errorf("socket %+v", d.Socket)
	}
	if k := d.Keys[0]; k.ID != "vault:transit/k8s" || k.Version != "3-1735689600" || k.Vault == nil || k.Type() != "vault" {
		t.Errorf("key %+v", k)
	}
	if k := d.Keys[1]; k.Local == nil || k.Vault != nil || k.Type() != "local" {
		t.Errorf("key %+v", k)
	}
	one := config.Write{AtLeast: 1}
	want := []config.Policy{
		{Keys: []string{"bao"}, Need: 1, Write: one, Generation: 1}, {Keys: []string{"bao"}, Need: 1, Write: one},
		{Keys: []string{"disk"}, Need: 1, Write: one},
	}
	if !reflect.DeepEqual(d.Policies, want) {
		t.Errorf("policies %+v", d.Policies)
	}
	if d.Status.Grace != 10*time.Minute || d.Status.ActivationDelay != 0 {
		t.Errorf("status %+v", d.Status)
	}
	if want := (config.AuditLog{File: "/var/lib/trousseau/audit.log", WhenFull: config.Continue, MaxMiB: 8, Keep: 30}); d.AuditLog != want {
		t.Errorf("audit log %+v, want %+v", d.AuditLog, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, dir := range []string{"testdata/good", "testdata/bad"} {
		for _, data := range documents(f, dir) {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := config.Parse("fuzz", data); err == nil {
			again(t, d)
		}
	})
}

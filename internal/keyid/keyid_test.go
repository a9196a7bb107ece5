package keyid_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/etcdvalue"
	"github.com/trousseau-io/trousseau/internal/keyid"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// document has two policies that differ in their generation, and a former cluster.
const document = `apiVersion: trousseau.io/v1
kind: DaemonConfiguration
cluster: {name: lab, lineage: "7f3c0a9e5d1b4c86a2e8f0937b6d5c41"}
formerClusters:
- {name: old, lineage: "00112233445566778899aabbccddeeff"}
keys:
- {name: disk, local: {keystore: %[1]s/keystore, keyFile: %[1]s/secret}}
policies:
- {keys: [disk], generation: 1}
- {keys: [disk]}
`

// open returns the keys of a document over the keystore of a vector, whose material never changes.
func open(t *testing.T) *keyring.Keyring {
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
	dir := t.TempDir()
	for name, content := range map[string][]byte{"keystore": file, "secret": []byte(vector.Secret)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := config.Parse("test", fmt.Appendf(nil, document, dir))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.Open(t.Context(), d, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	return keys
}

// TestList has the key ids themselves in it: what is stored under one must be found under the same one for ever.
func TestList(t *testing.T) {
	const announced = "t1.n0alWXxeDVWoJ58cfo65KQopiug"
	known := keyid.Ask(t.Context(), open(t))
	if known.Silent != nil {
		t.Fatalf("silent: %v", known.Silent)
	}
	ids := known.List(announced)
	want := []string{
		"t1.G1gy-9yYvOqcxKn2-lTwjnoouyc lab/1 generation 1 t0QDZAvziZWp",
		"t1.n0alWXxeDVWoJ58cfo65KQopiug lab/1 generation 1 b8wF5ga0PxLt older announced",
		"t1.4xBe1Hw4J0wWk7zxDnV8akkFdtQ lab/2 generation 0 t0QDZAvziZWp",
		"t1.NRWU2KICRbaTMjcgH6I4efvWHRc lab/2 generation 0 b8wF5ga0PxLt older",
		"t1.mr9UScS6hZ7aXI6Ffm33BeIJ-ak old/1 generation 1 t0QDZAvziZWp former",
		"t1.4Erdh4UyLO9iTQTh4xR6pU4WdYc old/1 generation 1 b8wF5ga0PxLt former older",
		"t1.sxHIwAIBXTqWQ0ChSHHS6q1BbCo old/2 generation 0 t0QDZAvziZWp former",
		"t1.ysQT-IDICM9RVwwjdRGeCYpfD0U old/2 generation 0 b8wF5ga0PxLt former older",
	}
	if len(ids) != len(want) {
		t.Fatalf("got %d key ids: %+v", len(ids), ids)
	}
	for i, id := range ids {
		if got := show(id); got != want[i] {
			t.Errorf("got  %s\nwant %s", got, want[i])
		}
		if !keyid.Valid(id.KeyID) {
			t.Errorf("%q is not valid", id.KeyID)
		}
		if found, ok := known.Find(id.KeyID); !ok || found.KeyID != id.KeyID || found.Policy != id.Policy {
			t.Errorf("%s is not found: %+v", id.KeyID, found)
		}
	}
}

func show(id keyid.ID) string {
	text := fmt.Sprintf("%s %s/%d generation %d %s", id.KeyID, id.Cluster, id.Policy, id.Generation, id.Keys[0].Version)
	if id.Former {
		text += " former"
	}
	if id.Older() {
		text += " older"
	}
	if id.Announced {
		text += " announced"
	}
	return text
}

// TestListNamesSilentKeys closes the key: it is named once, whatever policies it is in.
func TestListNamesSilentKeys(t *testing.T) {
	keys := open(t)
	_ = keys.Close()
	known := keyid.Ask(t.Context(), keys)
	if ids := known.List(""); ids != nil || len(known.Silent) != 1 || known.Silent[0].Key != "local" || known.Silent[0].Err == nil {
		t.Errorf("got %v and %v", ids, known.Silent)
	}
}

// TestFindWithoutAKey finds the key id of what was sealed by one of two keys, or with an older version of one.
func TestFindWithoutAKey(t *testing.T) {
	keys := open(t)
	a, b := keys.Ring.Sealing().Members()[0], keys.Ring.Sealing().Members()[0]
	b.ID = "other"
	p, err := envelope.NewPolicy(keys.Ring.Sealing().Cluster(), 0, 1, a, b)
	if err != nil {
		t.Fatal(err)
	}
	if keys.Ring, err = envelope.NewRing(p); err != nil {
		t.Fatal(err)
	}
	known := keyid.Ask(t.Context(), keys)
	for _, versions := range [][]keyservice.VersionID{{"t0QDZAvziZWp", ""}, {"", "b8wF5ga0PxLt"}, {"b8wF5ga0PxLt", "t0QDZAvziZWp"}} {
		id, found := known.Find(p.KeyID(versions))
		if !found || id.Keys[0].Version != versions[0] || id.Keys[1].Version != versions[1] {
			t.Errorf("%q: %+v", versions, id)
		}
	}
	if id, found := known.Find("t1.AAAAAAAAAAAAAAAAAAAAAAAAAAA"); found {
		t.Errorf("found %+v", id)
	}
	if ids := known.List(""); len(ids) != 3 {
		t.Errorf("listed %+v", ids)
	}
}

// TestOf seals under each policy and finds it again.
func TestOf(t *testing.T) {
	ring := open(t).Ring
	for i, p := range ring.Policies() {
		e, err := p.Seal(t.Context(), []keyservice.VersionID{"t0QDZAvziZWp"}, []byte("seed"))
		if err != nil {
			t.Fatal(err)
		}
		id, err := keyid.Of(ring, e)
		if err != nil || id.Policy != i%2+1 || id.Former != (i >= 2) || id.KeyID != p.KeyID(e.Versions()) {
			t.Errorf("policy %d: %+v, %v", i, id, err)
		}
		e.PolicyTag[0] ^= 1
		if _, err := keyid.Of(ring, e); !errors.Is(err, envelope.ErrPolicy) {
			t.Errorf("policy %d: %v", i, err)
		}
	}
}

// TestReadV1 reads a value as KMS v1 stores it, without a key id.
func TestReadV1(t *testing.T) {
	ciphertext := seal(t, open(t).Ring.Sealing())
	raw := append([]byte("k8s:enc:kms:v1:trousseau:"), byte(len(ciphertext)>>8), byte(len(ciphertext)))
	raw = append(append(raw, ciphertext...), "data"...)
	v, e, err := keyid.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	if v.API != "v1" || v.KeyID != "" || v.Need != 1 || v.Keys != 1 || v.Stored != len(ciphertext) || e.Shares[0].Version != "t0QDZAvziZWp" {
		t.Errorf("got %+v", v)
	}
}

func seal(t *testing.T, p *envelope.Policy) []byte {
	t.Helper()
	e, err := p.Seal(t.Context(), []keyservice.VersionID{"t0QDZAvziZWp"}, []byte("seed"))
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, _, err := e.Marshal(0)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

func TestReadRefuses(t *testing.T) {
	if _, _, err := keyid.Read([]byte("{}")); !errors.Is(err, etcdvalue.ErrNotKMS) {
		t.Errorf("in clear: %v", err)
	}
	if _, _, err := keyid.Read([]byte("k8s:enc:kms:v1:other:\x00\x03keydata")); !errors.Is(err, envelope.ErrMalformed) {
		t.Errorf("of another plugin: %v", err)
	}
}

func TestValid(t *testing.T) {
	for text, want := range map[string]bool{
		"t1.AAAAAAAAAAAAAAAAAAAAAAAAAA_": true, "t1.AAAA": false, "1": false, "": false, "t2.AAAAAAAAAAAAAAAAAAAAAAAAAAA": false,
	} {
		if keyid.Valid(text) != want {
			t.Errorf("%q: not %v", text, want)
		}
	}
}

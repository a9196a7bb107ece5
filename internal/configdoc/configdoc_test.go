package configdoc_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/configdoc"
)

// TestFilesAreUpToDate fails if a comment or a tag was changed and the files were not generated again.
func TestFilesAreUpToDate(t *testing.T) {
	files, err := configdoc.Generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the source says: run \"go generate ./internal/configdoc\"", name)
		}
	}
}

// TestExample parses the example as it stands in the manual.
func TestExample(t *testing.T) {
	manual, err := os.ReadFile(configdoc.ManualFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(manual), "```yaml\n")
	example, _, closed := strings.Cut(rest, "```\n")
	if !closed {
		t.Fatal("the manual has no example")
	}
	if _, err := config.Parse("example", []byte(example)); err != nil {
		t.Error(err)
	}
	if err := validate(t, schema(t), []byte(example)); err != nil {
		t.Error(err)
	}
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	file, err := os.Open(configdoc.SchemaFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	doc, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, data []byte) error {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return err
	}
	return s.Validate(doc)
}

// beyond names the bad documents that the schema accepts, because it cannot say what is wrong with them.
var beyond = map[string]string{
	"anchors-and-aliases":               "YAML resolves aliases",
	"two-documents":                     "one document is looked at",
	"two-keys-with-one-name":            "compares fields",
	"two-keys-with-one-id":              "compares fields",
	"upstream-is-itself":                "compares fields",
	"policies-that-only-wrap":           "knows nothing of what a key service can do",
	"only-an-escrow":                    "knows nothing of what a key service can do",
	"policies-that-do-not-fit-the-keys": "compares fields",
	"socket-group-without-permission":   "compares fields",
	"grace-without-outage-grace":        "compares fields",
	"former-cluster-is-the-cluster":     "compares fields",
	"key-name-that-leaves-its-path":     "the key service checks its own names",
	"keystore-sealed-in-two-ways":       "compares fields",
	"cold-start-in-the-cloud":           "knows nothing of what a key service can do",
	"cold-start-seeds-alone":            "compares fields",
	"cold-start-without-its-key":        "compares fields",
}

// TestSchemaAgreesWithTheDaemon gives the documents that the daemon's own tests accept and refuse to the schema.
func TestSchemaAgreesWithTheDaemon(t *testing.T) {
	s := schema(t)
	for name, data := range documents(t, "../config/testdata/good") {
		if err := validate(t, s, data); err != nil {
			t.Errorf("the schema refuses %s: %v", name, err)
		}
	}
	for name, data := range documents(t, "../../deploy/examples") {
		if err := validate(t, s, data); err != nil {
			t.Errorf("the schema refuses the example %s: %v", name, err)
		}
	}
	for name, data := range documents(t, "../config/testdata/bad") {
		err := validate(t, s, data)
		switch reason := beyond[name]; {
		case err == nil && reason == "":
			t.Errorf("the schema accepts %s, which the daemon refuses", name)
		case err != nil && reason != "":
			t.Errorf("%s need not be listed as beyond the schema: %v", name, err)
		}
	}
}

func documents(t *testing.T, dir string) map[string][]byte {
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

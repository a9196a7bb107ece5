package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// TestNoFieldHoldsASecret looks at every field that a document can have. One whose name speaks of a secret must be
// struct or the name of a file.
func TestNoFieldHoldsASecret(t *testing.T) {
	seen := 0
	walk(reflect.TypeFor[config.Daemon](), "", func(f strictyaml.Field, path string) {
		seen++
		name := strings.ToLower(f.Name)
		if strings.HasSuffix(name, "file") || strictyaml.KindOf(f.Type) == strictyaml.Struct || f.Type.Kind() == reflect.Bool {
			return
		}
		if path == ".keys.pkcs11.token" {
			return // how PKCS#11 calls a device
		}
		for _, word := range []string{"token", "password", "passphrase", "secret", "private", "jwt", "pin", "credential"} {
			if strings.Contains(name, word) {
				t.Errorf("%s looks as if it held a secret: take the name of a file instead", path)
			}
		}
	})
	if seen < 25 {
		t.Errorf("only %d fields were looked at", seen)
	}
}

func walk(t reflect.Type, path string, visit func(strictyaml.Field, string)) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for _, f := range strictyaml.Fields(t) {
		visit(f, path+"."+f.Name)
		walk(f.Type, path+"."+f.Name, visit)
	}
}

// TestAPastedSecretIsNotPrinted puts a secret into every field of a full document, one after the other. Where it is
// refused the error does not show it.
func TestAPastedSecretIsNotPrinted(t *testing.T) {
	const secret = "hvs.CAESIJ0123456789abcdefghijklmn"
	var doc yaml.Node
	if err := yaml.Unmarshal(documents(t, "testdata/good")["everything"], &doc); err != nil {
		t.Fatal(err)
	}
	refused := 0
	var paste func(n *yaml.Node)
	paste = func(n *yaml.Node) {
		for _, child := range n.Content {
			paste(child)
		}
		if n.Kind == yaml.DocumentNode {
			return
		}
		before := *n
		*n = yaml.Node{Kind: yaml.ScalarNode, Value: secret}
		data, err := yaml.Marshal(&doc)
		*n = before
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Parse("pasted", data); err != nil {
			refused++
			if strings.Contains(err.Error(), secret[:16]) {
				t.Errorf("%v", err)
			}
		}
	}
	paste(&doc)
	if refused < 40 {
		t.Errorf("only %d places refused the secret", refused)
	}
}

// TestPrintedDocuments prints a document in every way, and finds the fields that an operator looks for in a log.
func TestPrintedDocuments(t *testing.T) {
	d := parse(t, "everything", documents(t, "testdata/good")["everything"])
	var logged, loggedJSON bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("configuration", "config", d)
	slog.New(slog.NewJSONHandler(&loggedJSON, nil)).Info("configuration", "config", d)
	asJSON, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for way, text := range map[string]string{
		"%v": fmt.Sprintf("%v", d), "%+v": fmt.Sprintf("%+v", d), "%#v": fmt.Sprintf("%#v", *d), "json": string(asJSON),
		"yaml": string(asYAML), "slog": logged.String(), "slog json": loggedJSON.String(),
	} {
		if !strings.Contains(text, "prod-eu-1") {
			t.Errorf("%s: %s", way, text)
		}
	}
}

// Package configdoc writes the manual of the daemon's configuration, its JSON schema and the table of key services from the Go
// source: from the comments and tags on the fields of package config and of the key services' settings, and from what each
// key service says of itself.
//
// What a field's comment says is what the operator reads. Of a struct's comment, the first paragraph is for readers of
// the source and the others are for the operator too. A field without a comment is an error. The package is for go
// generate and for tests; no program that is shipped links it. It reads source files relative to its own folder, so it
// works in that folder only, which is where go generate and go test run it.
package configdoc

//go:generate go run ./generate

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// Files that Generate returns, relative to this package's folder.
const (
	ManualFile = "../../docs/configuration.md"
	SchemaFile = "../../docs/schema/daemon.schema.json"
	// ServicesFile is about key services rather than fields.
	ServicesFile = "../../docs/keyservices/README.md"
)

// Generate returns the content of each generated file.
func Generate() (map[string][]byte, error) {
	comments, err := readComments()
	if err != nil {
		return nil, err
	}
	root := reflect.TypeFor[config.Daemon]()
	manual, err := writeManual(root, comments)
	if err != nil {
		return nil, fmt.Errorf("writing the manual: %w", err)
	}
	schema, err := writeSchema(root, comments)
	if err != nil {
		return nil, fmt.Errorf("writing the schema: %w", err)
	}
	table, err := writeServices()
	if err != nil {
		return nil, fmt.Errorf("writing the table of key services: %w", err)
	}
	return map[string][]byte{ManualFile: manual, SchemaFile: schema, ServicesFile: table}, nil
}

// comments holds the text of comments by "package path.Type" and "package path.Type.Field".
type comments map[string]string

func readComments() (comments, error) {
	var r jsonschema.Reflector
	for _, dir := range []string{"../config", "../keyservice"} {
		err := r.AddGoComments(reflect.TypeFor[here]().PkgPath(), dir, jsonschema.WithFullComment())
		if err != nil {
			return nil, fmt.Errorf("reading comments in %s: %w", dir, err)
		}
	}
	return r.CommentMap, nil
}

// here is a type of this package, to know its path.
type here struct{}

// ofField returns a field's comment.
func (c comments) ofField(f strictyaml.Field) (string, error) {
	name := f.Owner.PkgPath() + "." + f.Owner.Name() + "." + f.GoName
	text := c[name]
	if text == "" {
		return "", fmt.Errorf("%s has no comment: it is the manual of %q", name, f.Name)
	}
	return text, nil
}

// ofStruct returns what a struct's comment says to operators, which may be nothing.
func (c comments) ofStruct(t reflect.Type) string {
	_, text, _ := strings.Cut(c[t.PkgPath()+"."+t.Name()], "\n\n")
	return text
}

// element returns the type that pointers and lists lead to, and whether there was a list.
func element(t reflect.Type) (elem reflect.Type, list bool) {
	for t.Kind() == reflect.Pointer || strictyaml.KindOf(t) == strictyaml.List {
		list = list || t.Kind() == reflect.Slice
		t = t.Elem()
	}
	return t, list
}

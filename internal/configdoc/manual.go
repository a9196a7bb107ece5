package configdoc

import (
	"bytes"
	_ "embed"
	"fmt"
	"reflect"
	"strings"

	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

//go:embed example.yaml
var example string

const opening = `<!-- Generated from the comments in internal/config and internal/keyservice by "go generate ./internal/configdoc". -->

# The configuration of trousseaud

The daemon reads one YAML document. It is strict: a document with an unknown field, a duplicate key, a value of another
type or a value out of range is refused as a whole, and every problem is listed with its line. Anchors, aliases and tags are
refused too. The file must not be writable by others than its owner.

- **Text** that YAML would take for a number, a date or true and false stands in quotes.
- **Durations** are numbers with a unit: ` + "`30s`, `2m`, `1h30m`" + `. A number without a unit is refused.
- **Secrets** are never in this document, only the names of files that hold them.
- A field that is left out has its default. A field without a value is refused; an empty list or ` + "`{}`" + ` is a value.

Editors check a document while it is written with the [JSON schema](schema/daemon.schema.json); for those that use the YAML
language server, begin the document with ` + "`# yaml-language-server: $schema=`" + ` and the path of the schema.

## Example

`

// manual is a page in the making. Errors are kept, so that writing reads like the page.
type manual struct {
	bytes.Buffer
	comments
	documented map[reflect.Type]string // the first path of each struct
	err        error
}

func writeManual(root reflect.Type, c comments) ([]byte, error) {
	m := &manual{comments: c, documented: make(map[reflect.Type]string)}
	m.WriteString(opening + "```yaml\n" + example + "```\n\n## Fields\n\n")
	m.fields(root, "")
	return m.Bytes(), m.err
}

// fields writes the fields of a struct, each structs after the plain ones, so that the headings do not lead astray.
func (m *manual) fields(t reflect.Type, path string) {
	var structs []strictyaml.Field
	for _, f := range strictyaml.Fields(t) {
		if elem, _ := element(f.Type); strictyaml.KindOf(elem) == strictyaml.Struct {
			structs = append(structs, f)
			continue
		}
		m.field("###", f, path+f.Name)
	}
	for _, f := range structs {
		m.structure(f, path+f.Name)
	}
}

// structure writes a section for a field that has fields of its own.
func (m *manual) structure(f strictyaml.Field, path string) {
	m.field("##", f, path)
	elem, list := element(f.Type)
	if first := m.documented[elem]; first != "" {
		fmt.Fprintf(m, "Its fields are those of `%s`.\n\n", first)
		return
	}
	m.documented[elem] = path
	if text := m.ofStruct(elem); text != "" {
		m.WriteString(text + "\n\n")
	}
	if list {
		path += "[]"
	}
	m.fields(elem, path+".")
}

func (m *manual) field(heading string, f strictyaml.Field, path string) {
	text, err := m.ofField(f)
	if err != nil && m.err == nil {
		m.err = err
	}
	fmt.Fprintf(m, "%s `%s`\n\n%s\n\n%s\n\n", heading, path, facts(f), text)
}

// facts returns what the tags of a field say, in words: "*duration, from `1s` to `10m`; default `30s`*".
func facts(f strictyaml.Field) string {
	s := kind(f)
	switch {
	case f.Enum != nil:
		s += ", `" + strings.Join(f.Enum, "` or `") + "`"
	case f.Says != "":
		s += ": " + f.Says
	}
	switch {
	case f.Min != "" && f.Max != "":
		s += fmt.Sprintf(", from `%s` to `%s`", f.Min, f.Max)
	case f.Min != "":
		s += fmt.Sprintf(", at least `%s`", f.Min)
	case f.Max != "":
		s += fmt.Sprintf(", at most `%s`", f.Max)
	}
	if _, list := element(f.Type); list && (f.Min != "" || f.Max != "") {
		s += " items"
	}
	switch {
	case f.Required || requiredBelow(f):
		s += "; required"
	case f.OneOf != "":
		s += "; exactly one " + f.OneOf + " is set"
	case f.Default != "":
		s += "; default `" + f.Default + "`"
	default:
		s += "; optional"
	}
	return "*" + s + "*"
}

func kind(f strictyaml.Field) string {
	elem, list := element(f.Type)
	one, many := "", ""
	switch strictyaml.KindOf(elem) {
	case strictyaml.Text:
		one, many = "text", "texts"
	case strictyaml.Bool:
		one, many = "true or false", "true or false"
	case strictyaml.Int:
		one, many = "whole number", "whole numbers"
	case strictyaml.Duration:
		one, many = "duration", "durations"
	case strictyaml.Struct:
		one, many = "fields", "fields"
	}
	if list {
		return "list of " + many
	}
	return one
}

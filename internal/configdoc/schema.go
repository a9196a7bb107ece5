package configdoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// writeSchema returns a JSON schema (2020-12) that accepts what the daemon accepts, as far as a schema can say it: rules
// over several fields are not in it, and neither are those that YAML loses, such as duplicate keys.
func writeSchema(root reflect.Type, c comments) ([]byte, error) {
	schema, err := object(root, c)
	if err != nil {
		return nil, err
	}
	schema.Version = jsonschema.Version
	schema.Title = "Configuration of trousseaud"
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(schema)
	return b.Bytes(), err
}

// object returns the schema of a struct.
func object(t reflect.Type, c comments) (*jsonschema.Schema, error) {
	s := &jsonschema.Schema{
		Type: "object", Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema,
		Description: unwrap(c.ofStruct(t)),
	}
	groups := map[string][]*jsonschema.Schema{}
	var order []string
	for _, f := range strictyaml.Fields(t) {
		property, err := value(f, f.Type, c)
		if err != nil {
			return nil, err
		}
		text, err := c.ofField(f)
		if err != nil {
			return nil, err
		}
		property.Description = strings.TrimSpace(unwrap(text) + "\n\n" + property.Description)
		s.Properties.Set(f.Name, property)
		if f.Required || requiredBelow(f) {
			s.Required = append(s.Required, f.Name)
		}
		if f.OneOf != "" {
			if groups[f.OneOf] == nil {
				order = append(order, f.OneOf)
			}
			groups[f.OneOf] = append(groups[f.OneOf], &jsonschema.Schema{Required: []string{f.Name}})
		}
	}
	for _, group := range order {
		s.AllOf = append(s.AllOf, &jsonschema.Schema{OneOf: groups[group]})
	}
	return s, nil
}

// requiredBelow reports whether a struct that is no pointer has fields that must be there, which makes it required too.
func requiredBelow(f strictyaml.Field) bool {
	if f.Type.Kind() != reflect.Struct || strictyaml.KindOf(f.Type) != strictyaml.Struct || f.OneOf != "" {
		return false
	}
	for _, inner := range strictyaml.Fields(f.Type) {
		if inner.Required || inner.OneOf != "" || requiredBelow(inner) {
			return true
		}
	}
	return false
}

// value returns the schema of a field's value, or of its items where t is their type.
func value(f strictyaml.Field, t reflect.Type, c comments) (*jsonschema.Schema, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch strictyaml.KindOf(t) {
	case strictyaml.Struct:
		return object(t, c)
	case strictyaml.List:
		return array(f, t, c)
	case strictyaml.Bool:
		s := &jsonschema.Schema{Type: "boolean"}
		if f.Default != "" {
			s.Default = f.Default == "true"
		}
		return s, nil
	case strictyaml.Int:
		return integer(f, t), nil
	case strictyaml.Duration:
		return &jsonschema.Schema{Type: "string", Pattern: strictyaml.DurationPattern, Default: orNil(f.Default)}, nil
	}
	return text(f), nil
}

func array(f strictyaml.Field, t reflect.Type, c comments) (*jsonschema.Schema, error) {
	s := &jsonschema.Schema{Type: "array", MinItems: length(f.Min), MaxItems: length(f.Max)}
	if f.Required && s.MinItems == nil {
		s.MinItems = length("1")
	}
	item := f
	item.Required, item.Min, item.Max = true, "", ""
	var err error
	s.Items, err = value(item, t.Elem(), c)
	return s, err
}

func integer(f strictyaml.Field, t reflect.Type) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "integer", Minimum: json.Number(f.Min), Maximum: json.Number(f.Max)}
	switch unsigned := t.Kind() >= reflect.Uint; {
	case s.Minimum != "":
	case unsigned:
		s.Minimum = "0"
	default:
		s.Minimum = json.Number(strconv.FormatInt(-1<<(t.Bits()-1), 10))
	}
	if s.Maximum == "" {
		bits := t.Bits()
		if t.Kind() < reflect.Uint {
			bits--
		}
		s.Maximum = json.Number(strconv.FormatUint(1<<bits-1, 10))
	}
	if f.Default != "" {
		s.Default = json.Number(f.Default)
	}
	return s
}

func text(f strictyaml.Field) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string", Pattern: f.Pattern, Default: orNil(f.Default)}
	for _, allowed := range f.Enum {
		s.Enum = append(s.Enum, allowed)
	}
	if (f.Required || f.OneOf != "") && f.Enum == nil && f.Pattern == "" {
		s.MinLength = length("1")
	}
	return s
}

func orNil(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func length(tag string) *uint64 {
	if tag == "" {
		return nil
	}
	n, err := strconv.ParseUint(tag, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("configdoc: length %q: %v", tag, err))
	}
	return &n
}

// unwrap joins the lines of each paragraph: who shows a schema's text breaks its lines anew.
func unwrap(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.ReplaceAll(p, "\n", " ")
	}
	return strings.Join(paragraphs, "\n\n")
}

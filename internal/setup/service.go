package setup

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/all"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// Service is a key in a key service that exists already.
type Service struct {
	Name     string // "vault": one of Services
	Settings []Setting
}

// Setting is one field of a key service's settings. A list has one Setting for each item.
type Setting struct {
	Path  string // as docs/configuration.md has it, below the key service: "auth.tokenFile"
	Value string
}

// WantsLocal reports whether a key in a key service gains from a second one on the node itself: who takes that service over
// then opens nothing.
func WantsLocal(service string) bool {
	return slices.ContainsFunc(all.Descriptions(), func(d keyservice.Description) bool {
		return d.Name == service && !d.OnNode && !d.WrapOnly
	})
}

// Services returns the names of all key services but local, whose key is made here.
func Services() []string {
	var names []string
	for _, f := range strictyaml.Fields(reflect.TypeFor[all.Service]()) {
		if f.Name != "local" {
			names = append(names, f.Name)
		}
	}
	return names
}

// Questions is how Ask asks. What they return is taken as it is; "" leaves the field out.
type Questions struct {
	Text   func(field string) string
	Choose func(what string, fields []string) string // one of fields
}

// Ask asks for every setting that a key service cannot do without.
func Ask(service string, q Questions) []Setting {
	f, known := fieldOf(reflect.TypeFor[all.Service](), service)
	if !known {
		return nil
	}
	var settings []Setting
	q.fields(f.Type, "", func(s Setting) { settings = append(settings, s) })
	return settings
}

func (q Questions) fields(t reflect.Type, path string, add func(Setting)) {
	groups := make(map[string][]string)
	fields := strictyaml.Fields(structOf(t))
	for _, f := range fields {
		if f.OneOf != "" {
			groups[f.OneOf] = append(groups[f.OneOf], f.Name)
		}
	}
	for _, f := range fields {
		switch names := groups[f.OneOf]; {
		case f.OneOf != "" && f.Name == names[0]:
			chosen, _ := fieldOf(structOf(t), q.Choose(f.OneOf, names))
			q.field(chosen, path, add)
		case f.OneOf == "" && f.Required:
			q.field(f, path, add)
		}
	}
}

func (q Questions) field(f strictyaml.Field, path string, add func(Setting)) {
	if f.Name == "" {
		return // none was chosen
	}
	path += f.Name
	switch strictyaml.KindOf(f.Type) {
	case strictyaml.Struct:
		none := true
		q.fields(f.Type, path+".", func(s Setting) { none = false; add(s) })
		if none {
			add(Setting{path, "{}"}) // its defaults
		}
	case strictyaml.Bool:
		add(Setting{path, "true"}) // it was chosen
	case strictyaml.List:
		for _, item := range strings.Fields(strings.ReplaceAll(q.Text(path), ",", " ")) {
			add(Setting{path, item})
		}
	default:
		if value := q.Text(path); value != "" {
			add(Setting{path, value})
		}
	}
}

// yaml returns the key's entry in the configuration, under that name. A field that does not exist is written too: reading the
// configuration says so, and which one was probably meant.
func (s Service) yaml(name string) string {
	f, _ := fieldOf(reflect.TypeFor[all.Service](), s.Name)
	settings := mapping()
	for _, setting := range s.Settings {
		set(settings, f.Type, strings.Split(setting.Path, "."), setting.Value)
	}
	key := mapping()
	put(key, "name", text(name))
	put(key, s.Name, settings)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{key}}); err != nil {
		panic(err) // a tree of texts
	}
	return fmt.Sprintf("# From zero to errors: docs/keyservices/%s.md\n%s", s.Name, out.String())
}

// set puts a value at a path below the node of a struct of type t, which is nil below a field that does not exist.
func set(node *yaml.Node, t reflect.Type, path []string, value string) {
	var f strictyaml.Field
	if t != nil && strictyaml.KindOf(t) == strictyaml.Struct {
		f, _ = fieldOf(structOf(t), path[0])
	}
	if len(path) > 1 {
		child := get(node, path[0])
		if child == nil || child.Kind != yaml.MappingNode {
			child = mapping()
			put(node, path[0], child)
		}
		set(child, f.Type, path[1:], value)
		return
	}
	item := text(value)
	switch {
	case f.Type == nil:
	case strictyaml.KindOf(f.Type) == strictyaml.Struct && value == "{}":
		item = mapping()
	case strictyaml.KindOf(f.Type) == strictyaml.List:
		list := get(node, path[0])
		if list == nil {
			list = &yaml.Node{Kind: yaml.SequenceNode}
			put(node, path[0], list)
		}
		list.Content = append(list.Content, item)
		return
	case strictyaml.KindOf(f.Type) != strictyaml.Text:
		item = &yaml.Node{Kind: yaml.ScalarNode, Value: value}
	}
	put(node, path[0], item)
}

func structOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

func fieldOf(t reflect.Type, name string) (strictyaml.Field, bool) {
	for _, f := range strictyaml.Fields(t) {
		if f.Name == name {
			return f, true
		}
	}
	return strictyaml.Field{}, false
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

func text(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
}

func get(node *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i+1]
		}
	}
	return nil
}

func put(node *yaml.Node, name string, value *yaml.Node) {
	node.Content = append(node.Content, text(name), value)
}

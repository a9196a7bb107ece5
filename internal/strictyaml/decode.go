package strictyaml

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder fills a struct from a tree that went through the linter.
type decoder struct {
	*collector
	at map[string]place // by path
}

// place is where a field or an item of a list is in the document.
type place struct {
	start *yaml.Node // its name, or the item itself: the line to report
	value *yaml.Node
}

// problem reports text at the line of path, or of the nearest thing around it that is in the document.
func (d *decoder) problem(path, text string) {
	around := path
	for d.at[around].start == nil {
		around = around[:max(0, strings.LastIndexAny(around, ".["))]
	}
	if value := d.at[path].value; value != nil && value.Kind == yaml.ScalarNode {
		text = cut(text, value.Value)
	}
	d.report(d.at[around].start, path, text)
}

// cut shortens a value in a text, as Quote does. It is for what Validate and UnmarshalText report: a secret that was
// pasted where its file should be named shows up in their texts sooner or later.
func cut(text, value string) string {
	short := Quote(value)
	if short == strconv.Quote(value) {
		return text
	}
	return strings.NewReplacer(strconv.Quote(value), short, value, short).Replace(text)
}

// structure fills v from the mapping n, or from defaults alone if n is nil. It returns whether everything in and below v
// has its value: unknown fields do not count, so that the checks of the structs around v still run.
func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) bool {
	if n != nil && n.Kind != yaml.MappingNode {
		d.mismatch(n, path, "must be fields, one \"name: value\" per line")
		return false
	}
	fields := Fields(v.Type())
	given, meant, known := d.given(n, fields, path)
	complete := true
	for _, f := range fields {
		if !d.field(f, given[f.Name], v.FieldByIndex(f.Index), join(path, f.Name), meant[f.Name]) {
			complete = false
		}
	}
	if !d.oneOf(fields, given, meant, path) {
		complete = false
	}
	if complete && known {
		d.validate(v, path)
	}
	return complete
}

// given returns the values in the mapping by the names of their fields, after reporting the unknown ones. The fields in
// meant are those that an unknown one is a slip for: that they are missing need not be said again.
func (d *decoder) given(n *yaml.Node, fields []Field, path string) (given map[string]*yaml.Node,
	meant map[string]bool, known bool,
) {
	given, meant, known = make(map[string]*yaml.Node), make(map[string]bool), true
	if n == nil {
		return given, meant, known
	}
	names := make(map[string]bool, len(fields))
	for _, f := range fields {
		names[f.Name] = true
	}
	for key, value := range pairs(n) {
		name := key.Value
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			known = false
		case !names[name]:
			text, near := unknown(name, fields)
			d.report(key, join(path, name), text)
			known, meant[near] = false, true
		case given[name] == nil:
			given[name] = value
			d.at[join(path, name)] = place{start: key, value: value}
		}
	}
	return given, meant, known
}

// field fills v from n, or with its default if n is nil. A missing field that was meant is not reported.
func (d *decoder) field(f Field, n *yaml.Node, v reflect.Value, path string, meant bool) bool {
	switch {
	case n != nil:
		return d.value(f, n, v, path)
	case f.Required:
		if !meant {
			d.problem(path, "missing, and there is no default")
		}
		return false
	case f.Default != "":
		if problem := set(f, v, f.Default); problem != "" {
			panic(fmt.Sprintf("strictyaml: default of %s.%s: %s", f.Owner, f.GoName, problem))
		}
	case v.Kind() == reflect.Struct && KindOf(f.Type) == Struct && f.OneOf == "":
		return d.structure(nil, v, path)
	}
	return true
}

// value fills v from n, whatever kind it is of.
func (d *decoder) value(f Field, n *yaml.Node, v reflect.Value, path string) bool {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	kind := KindOf(v.Type())
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		d.problem(path, "has no value: "+noValue(kind)+", or remove the line")
		return false
	}
	switch kind {
	case List:
		return d.list(f, n, v, path)
	case Struct:
		return d.structure(n, v, path)
	}
	return d.scalar(f, n, v, path)
}

// noValue says what could stand where nothing does.
func noValue(kind Kind) string {
	switch kind {
	case List:
		return "write at least one item"
	case Struct:
		return "write {} to take all defaults"
	}
	return "write one"
}

func (d *decoder) list(f Field, n *yaml.Node, v reflect.Value, path string) bool {
	if n.Kind != yaml.SequenceNode {
		d.mismatch(n, path, "must be a list, one \"- item\" per line or [item, item]")
		return false
	}
	if f.Required && len(n.Content) == 0 {
		d.problem(path, "must have at least one item")
		return false
	}
	if outside := outsideLength(f, len(n.Content)); outside != "" {
		d.problem(path, outside)
		return false
	}
	if len(n.Content) > 0 { // an empty list and none are the same thing
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	}
	complete := true
	each := f
	each.Type, each.Required, each.Min, each.Max = v.Type().Elem(), true, "", ""
	for i, child := range n.Content {
		d.at[item(path, i)] = place{start: child, value: child}
		if !d.value(each, child, v.Index(i), item(path, i)) {
			complete = false
		}
	}
	return complete
}

// oneOf checks that of each group of fields exactly one is given.
func (d *decoder) oneOf(fields []Field, given map[string]*yaml.Node, meant map[string]bool, path string) bool {
	ok := true
	done := make(map[string]bool)
	for _, f := range fields {
		if f.OneOf == "" || done[f.OneOf] {
			continue
		}
		done[f.OneOf] = true
		var names, set []string
		slip := false // a field of the group was meant: that none is set need not be said again
		for _, member := range fields {
			if member.OneOf != f.OneOf {
				continue
			}
			names = append(names, member.Name)
			if given[member.Name] != nil {
				set = append(set, member.Name)
			}
			slip = slip || meant[member.Name]
		}
		if len(set) == 1 {
			continue
		}
		ok = false
		exactly := fmt.Sprintf("set exactly one of %s", strings.Join(names, ", "))
		if len(set) > 1 {
			d.problem(path, fmt.Sprintf("has more than one %s, %s: %s", f.OneOf, strings.Join(set, " and "), exactly))
		} else if !slip {
			d.problem(path, fmt.Sprintf("has no %s: %s", f.OneOf, exactly))
		}
	}
	return ok
}

func (d *decoder) validate(v reflect.Value, path string) {
	validator, ok := v.Addr().Interface().(Validator)
	if !ok {
		return
	}
	validator.Validate(func(field, problem string) {
		switch {
		case field == "":
			d.problem(path, problem)
		case path == "":
			d.problem(field, problem)
		default:
			d.problem(path+"."+field, problem)
		}
	})
}

// mismatch reports a value of the wrong kind, unless it is an alias: the linter said that already.
func (d *decoder) mismatch(n *yaml.Node, path, must string) {
	switch n.Kind {
	case yaml.MappingNode:
		must += ", not fields"
	case yaml.SequenceNode:
		must += ", not a list"
	case yaml.AliasNode:
		return
	}
	d.problem(path, must)
}

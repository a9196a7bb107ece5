package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Field is what the tags of a struct's field say about the document. The decoder, the schema and the manual are all
// made from it.
//
//	yaml:"name"         the name in the document; a field without one is no part of it
//	yaml:",inline"      on an embedded struct: its fields stand in the outer one
//	default:"30s"       used when the field is absent
//	required:"true"     must be there, and be neither empty text nor an empty list; items of a list always are required
//	enum:"a,b"          the values that text may have
//	pattern:"^[a-z]+$"  the regular expression that text, or each item of a list of texts, must match
//	says:"..."          the pattern in words, to follow "must be"
//	min:"1" max:"8"     bounds of a number or a duration, or of a list's length; a bound itself is allowed
//	oneof:"group"       exactly one of the fields of this group is in the document, and is no empty text
type Field struct {
	Name     string
	Type     reflect.Type
	Owner    reflect.Type // the struct that declares it, which is not the outer one if it is inlined
	GoName   string       // its name there
	Index    []int        // for reflect.Value.FieldByIndex on the outer struct
	Default  string       // empty for none
	Required bool
	Enum     []string
	Pattern  string // empty for none, else Says is set too
	Says     string
	Min, Max string // empty for none
	OneOf    string // empty for none
}

// Fields returns the fields of a struct in their order, those of inlined structs at their place.
func Fields(t reflect.Type) []Field {
	var fields []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case f.Anonymous && option == "inline":
			for _, inner := range Fields(f.Type) {
				inner.Index = append([]int{i}, inner.Index...)
				fields = append(fields, inner)
			}
		case name != "" && name != "-":
			fields = append(fields, Field{
				Name: name, Type: f.Type, Owner: t, GoName: f.Name, Index: []int{i},
				Default:  f.Tag.Get("default"),
				Required: f.Tag.Get("required") == "true",
				Enum:     list(f.Tag.Get("enum")),
				Pattern:  f.Tag.Get("pattern"), Says: f.Tag.Get("says"),
				Min: f.Tag.Get("min"), Max: f.Tag.Get("max"),
				OneOf: f.Tag.Get("oneof"),
			})
		}
	}
	return fields
}

func list(tag string) []string {
	if tag == "" {
		return nil
	}
	return strings.Split(tag, ",")
}

// Kind is how a Go type is written in a document.
type Kind uint8

const (
	Text     Kind = iota // a string or a type with UnmarshalText
	Bool                 // true or false
	Int                  // a whole decimal number, signed or not
	Duration             // text such as "30s"
	List                 // a slice
	Struct               // a struct
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// KindOf returns the kind of a type; pointers have the kind of what they point to. It panics if there is none.
func KindOf(t reflect.Type) Kind {
	switch {
	case t == durationType:
		return Duration
	case t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(textType):
		return Text
	}
	switch t.Kind() {
	case reflect.Pointer:
		return KindOf(t.Elem())
	case reflect.String:
		return Text
	case reflect.Bool:
		return Bool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return Int
	case reflect.Slice:
		return List
	case reflect.Struct:
		return Struct
	}
	panic(fmt.Sprintf("strictyaml: %s cannot be decoded", t))
}

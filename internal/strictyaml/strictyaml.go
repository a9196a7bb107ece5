// Package strictyaml decodes one YAML document into a Go struct and reports every problem of the document at once, each
// with its line.
//
// It is for files that a person writes and a daemon must not misread. So it refuses what YAML allows and people trip
// over: duplicate keys, anchors, aliases, merge keys, tags, several documents, text that YAML takes for a number, empty
// values. It never converts: a number is no text, a bare number is no duration. A field that the struct does not have
// is a problem, with the name that was probably meant.
//
// The documents it is made for hold no secrets, only the names of files with secrets. Somebody will paste one all the
// same, so no problem shows more than the first few characters of a value, and none of an unknown field's.
//
// A check that needs several fields is run only when these fields decoded: mending one problem may show another.
// Maps and interfaces are not supported, and Decode panics on a Go type that it cannot decode, which is a mistake of the
// program and not of the document.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// MaxSize is the size in bytes of the largest document that is read.
	MaxSize = 1 << 20
	// MaxDepth is how deep mappings and lists may be nested.
	MaxDepth = 32
)

// Validator is implemented by a struct, with a pointer receiver, that has rules which no tag can say.
//
// Validate is called after the struct was decoded, its defaults included, and only if its fields had no problem and no
// value below it is wrong or missing. It reports each problem with the YAML name of the field that it is about, or a path
// that starts with one ("keys[1].name"), or "" for the struct as a whole; that gives the problem its line. Where the
// problem quotes the field's value, a long one is cut. An embedded struct's Validate is called through Go's promotion of
// methods, so an outer one with that name replaces it.
type Validator interface {
	Validate(report func(field, problem string))
}

// Decode reads the one document in data into the struct that into points to. The name of the file is used in errors only.
// The error is a *Problems, which lists all of them; what into points to is then of no use.
func Decode(filename string, data []byte, into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() || target.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("strictyaml: decoding into a %T, which is no pointer to a struct", into))
	}
	c := &collector{file: filename}
	if root := parse(c, data); root != nil {
		d := decoder{collector: c, at: map[string]place{"": {start: root}}}
		d.structure(root, target.Elem(), "")
	}
	return c.err()
}

// parse returns the root of the only document, or nil after reporting why there is nothing to decode.
func parse(c *collector, data []byte) *yaml.Node {
	start := &yaml.Node{Line: 1, Column: 1}
	if len(data) > MaxSize {
		c.report(start, "", fmt.Sprintf("the file is larger than %d KiB", MaxSize>>10))
		return nil
	}
	if at := invalidUTF8(data); at >= 0 {
		line := 1 + bytes.Count(data[:at], []byte("\n"))
		c.report(&yaml.Node{Line: line, Column: 1}, "", "the text is not UTF-8: save the file as UTF-8")
		return nil
	}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := documents.Decode(&doc); {
	case errors.Is(err, io.EOF):
		c.report(start, "", "the file is empty")
		return nil
	case err != nil:
		c.report(syntaxError(err))
		return nil
	}
	var second yaml.Node
	switch err := documents.Decode(&second); {
	case err == nil:
		c.report(&second, "", "a second document starts here: one file holds one document, so remove the \"---\"")
	case !errors.Is(err, io.EOF):
		c.report(syntaxError(err))
	}
	root := doc.Content[0]
	if root.ShortTag() == "!!null" {
		c.report(start, "", "the file is empty")
		return nil
	}
	if !(linter{c}).node(root, "", 1) {
		return nil
	}
	return root
}

func invalidUTF8(data []byte) int {
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}

// syntax takes the parser's errors apart: they carry their line only in their text.
var syntax = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func syntaxError(err error) (at *yaml.Node, path, text string) {
	at, text = &yaml.Node{Line: 1, Column: 1}, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := syntax.FindStringSubmatch(err.Error()); m != nil {
		text = m[2]
		if line, err := strconv.Atoi(m[1]); err == nil {
			at.Line = line
		}
	}
	// This text of the parser quotes the document, and what begins with * may be a password.
	if strings.HasPrefix(text, "unknown anchor") {
		return at, "", "a value that starts with * is an alias, and aliases are not supported: put text in quotes"
	}
	return at, "", "not valid YAML on or beside this line: " + text
}

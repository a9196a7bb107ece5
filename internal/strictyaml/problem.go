package strictyaml

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	Line, Column int    // both count from 1
	Path         string // the field, such as "keys[1].vault.mount"; empty for the document as a whole
	Text         string // what is wrong, and what to write instead
}

// Problems is the error of Decode: everything that is wrong with one file, in the order of its lines.
type Problems struct {
	File string
	List []Problem
	More bool // there are more than maxProblems, and List has only the first that were found
}

// maxProblems bounds what a file that is something else altogether can print.
const maxProblems = 100

// Error lists all problems, one per line: "file:line: path: text".
func (p *Problems) Error() string {
	var b strings.Builder
	for i, problem := range p.List {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d: ", p.File, problem.Line)
		if problem.Path != "" {
			b.WriteString(problem.Path + ": ")
		}
		b.WriteString(problem.Text)
	}
	if p.More {
		fmt.Fprintf(&b, "\n%s: more problems are not shown", p.File)
	}
	return b.String()
}

// collector gathers the problems of one document.
type collector struct {
	file     string
	problems []Problem
	more     bool
}

func (c *collector) report(at *yaml.Node, path, text string) {
	if len(c.problems) == maxProblems {
		c.more = true
		return
	}
	c.problems = append(c.problems, Problem{Line: at.Line, Column: at.Column, Path: path, Text: text})
}

func (c *collector) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(c.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &Problems{File: c.file, List: c.problems, More: c.more}
}

// Quote quotes a value of a document for a message. It shows a longer value by its beginning only: what looks like a
// wrong value may be a secret in the wrong place. Up to eight characters are shown as they are, because messages without
// the word that was mistyped are hard to read and no secret worth the name is that short.
func Quote(value string) string {
	const whole, shown = 8, 5
	runes := []rune(value)
	if len(runes) <= whole {
		return strconv.Quote(value)
	}
	return strconv.Quote(string(runes[:shown])) + "..."
}

// plainName is what a field's name may look like to be shown as it is.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,32}$`)

func join(path, name string) string {
	if !plainName.MatchString(name) {
		name = Quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func item(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

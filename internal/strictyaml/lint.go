package strictyaml

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// linter refuses the parts of YAML that make a document say something else than it seems to, wherever they are.
type linter struct{ *collector }

// node reports whether the tree below n can be decoded: false is a tree too deep to walk, everything else can be read
// on for more problems.
func (l linter) node(n *yaml.Node, path string, depth int) bool {
	if depth > MaxDepth {
		l.report(n, path, fmt.Sprintf("nested deeper than %d levels", MaxDepth))
		return false
	}
	if n.Anchor != "" {
		l.report(n, path, "anchors are not supported: remove the & and its name, or put text in quotes")
	}
	if n.Kind == yaml.AliasNode {
		l.report(n, path, "aliases are not supported: write the value out, or put text in quotes")
		return true
	}
	if n.Style&yaml.TaggedStyle != 0 {
		l.report(n, path, "tags are not supported: remove the ! and its name, or put text in quotes")
	}
	switch n.Kind {
	case yaml.MappingNode:
		return l.mapping(n, path, depth)
	case yaml.SequenceNode:
		for i, child := range n.Content {
			if !l.node(child, item(path, i), depth+1) {
				return false
			}
		}
	}
	return true
}

func (l linter) mapping(n *yaml.Node, path string, depth int) bool {
	lines := make(map[string]int)
	for key, value := range pairs(n) {
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || key.Anchor != "" {
			l.key(key, path)
			continue
		}
		field := join(path, key.Value)
		if line, seen := lines[key.Value]; seen {
			l.report(key, field, fmt.Sprintf("set twice: the first is on line %d", line))
		} else {
			lines[key.Value] = key.Line
		}
		if !l.node(value, field, depth+1) {
			return false
		}
	}
	return true
}

// key reports a key that is no field's name. What stands below it means nothing and is not looked at.
func (l linter) key(key *yaml.Node, path string) {
	switch {
	case key.ShortTag() == "!!merge":
		l.report(key, path, "merge keys (<<) are not supported: write the fields out")
	case key.Anchor != "" || key.Kind == yaml.AliasNode:
		l.report(key, path, "anchors and aliases are not supported: write the field's name out")
	default:
		l.report(key, path, "a field's name must be text")
	}
}

// pairs iterates over the keys and values of a mapping.
func pairs(n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

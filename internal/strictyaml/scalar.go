package strictyaml

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// DurationPattern is the regular expression of a duration: numbers with a unit, never a bare number.
const DurationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`

var (
	duration = regexp.MustCompile(DurationPattern)
	decimal  = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
)

// scalar fills v from n after a look at what YAML takes n for: a number is no text and text is no number.
func (d *decoder) scalar(f Field, n *yaml.Node, v reflect.Value, path string) bool {
	kind, tag := KindOf(v.Type()), n.ShortTag()
	must := map[Kind]string{
		Text: "must be text", Bool: "must be true or false", Int: "must be a whole number", Duration: mustDuration,
	}[kind]
	if n.Kind != yaml.ScalarNode {
		d.mismatch(n, path, must)
		return false
	}
	problem := ""
	switch {
	case kind == Duration && tag == "!!int" && len(n.Value) <= 8:
		problem = fmt.Sprintf("needs a unit: write %ss for seconds or %sm for minutes", n.Value, n.Value)
	case kind == Text && tag != "!!str":
		problem = must + ": YAML takes this for something else, so put it in quotes"
	case (kind == Bool || kind == Int) && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		problem = must + ", without quotes"
	case kind == Bool && tag != "!!bool", kind == Int && tag != "!!int":
		problem = must + ", not " + Quote(n.Value)
	case (f.Required || f.OneOf != "") && kind == Text && n.Value == "":
		problem = "must not be empty"
	default:
		problem = set(f, v, n.Value)
	}
	if problem != "" {
		d.problem(path, problem)
	}
	return problem == ""
}

// set gives v the value that text stands for, or returns what is wrong with it.
func set(f Field, v reflect.Value, text string) (problem string) {
	switch KindOf(v.Type()) {
	case Bool:
		v.SetBool(strings.EqualFold(text, "true"))
		return ""
	case Int:
		return setInt(f, v, text)
	case Duration:
		return setDuration(f, v, text)
	}
	return setText(f, v, text)
}

func setText(f Field, v reflect.Value, text string) string {
	if f.Enum != nil && !slices.Contains(f.Enum, text) {
		problem := fmt.Sprintf("must be %s, not %s", either(f.Enum), Quote(text))
		if near := nearest(text, f.Enum); near != "" && len(f.Enum) > 1 {
			problem += ": did you mean " + near + "?"
		}
		return problem
	}
	if f.Pattern != "" && !regexp.MustCompile(f.Pattern).MatchString(text) {
		return "must be " + f.Says + ", not " + Quote(text)
	}
	if unmarshaler, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		// The types of a document use Quote in their errors.
		if err := unmarshaler.UnmarshalText([]byte(text)); err != nil {
			return err.Error()
		}
		return ""
	}
	v.SetString(text)
	return ""
}

func either(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	last := len(values) - 1
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

func setInt(f Field, v reflect.Value, text string) string {
	if !decimal.MatchString(text) {
		return "must be a whole decimal number without leading zeros or signs"
	}
	if v.CanUint() {
		u, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil || f.Min != "" && u < uint64(bound(f, f.Min)) || f.Max != "" && u > uint64(bound(f, f.Max)) {
			return mustBetween(f, "0", strconv.FormatUint(1<<v.Type().Bits()-1, 10), text)
		}
		v.SetUint(u)
		return ""
	}
	i, err := strconv.ParseInt(text, 10, v.Type().Bits())
	if err != nil || f.Min != "" && i < bound(f, f.Min) || f.Max != "" && i > bound(f, f.Max) {
		limit := int64(1)<<(v.Type().Bits()-1) - 1
		return mustBetween(f, strconv.FormatInt(-limit-1, 10), strconv.FormatInt(limit, 10), text)
	}
	v.SetInt(i)
	return ""
}

const mustDuration = `must be a duration such as "30s", "2m" or "1h30m"`

func setDuration(f Field, v reflect.Value, text string) string {
	given, err := time.ParseDuration(text)
	if err != nil || !duration.MatchString(text) {
		return mustDuration + ", not " + Quote(text)
	}
	if f.Min != "" && given < limit(f, f.Min) || f.Max != "" && given > limit(f, f.Max) {
		return mustBetween(f, "0s", "", text)
	}
	v.SetInt(int64(given))
	return ""
}

// outsideLength returns what is wrong with the length of a list, if anything.
func outsideLength(f Field, length int) string {
	switch {
	case f.Min != "" && int64(length) < bound(f, f.Min):
		return fmt.Sprintf("must have at least %s items, not %d", f.Min, length)
	case f.Max != "" && int64(length) > bound(f, f.Max):
		return fmt.Sprintf("must have at most %s items, not %d", f.Max, length)
	}
	return ""
}

// mustBetween says which bounds f has, with least and most for those that its tags leave open; an empty most is no bound.
// What was given is known to be a number, so it needs no quotes, but it is cut like every value.
func mustBetween(f Field, least, most, given string) string {
	least, most = cmp.Or(f.Min, least), cmp.Or(f.Max, most)
	given = strings.ReplaceAll(Quote(given), `"`, "")
	if most == "" {
		return fmt.Sprintf("must be at least %s, not %s", least, given)
	}
	return fmt.Sprintf("must be between %s and %s, not %s", least, most, given)
}

func bound(f Field, tag string) int64 {
	i, err := strconv.ParseInt(tag, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("strictyaml: bound of %s.%s: %v", f.Owner, f.GoName, err))
	}
	return i
}

func limit(f Field, tag string) time.Duration {
	d, err := time.ParseDuration(tag)
	if err != nil {
		panic(fmt.Sprintf("strictyaml: bound of %s.%s: %v", f.Owner, f.GoName, err))
	}
	return d
}

package strictyaml_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

var update = flag.Bool("update", false, "write the golden files")

// recipe has a field of every kind that a document can have.
type recipe struct {
	Name     string        `yaml:"name" required:"true" pattern:"^[a-z0-9 ]*$" says:"small letters, digits and spaces"`
	Course   course        `yaml:"course" enum:"starter,main,dessert" default:"main"`
	Vegan    bool          `yaml:"vegan"`
	Spicy    bool          `yaml:"spicy" default:"true"`
	Serves   uint8         `yaml:"serves" min:"1" max:"12" default:"4"`
	Offset   int32         `yaml:"offset"`
	Votes    uint64        `yaml:"votes"`
	Boil     time.Duration `yaml:"boil" min:"1s" max:"3h" default:"10m"`
	Colour   colour        `yaml:"colour" default:"red"`
	Tags     []string      `yaml:"tags" max:"3"`
	Steps    []step        `yaml:"steps" required:"true"`
	Oven     oven          `yaml:"oven"`
	Drink    *drink        `yaml:"drink,omitempty"`
	Limit    *int          `yaml:"limit,omitempty"`
	Internal int           `yaml:"-"`
}

type course string

type step struct {
	Text string `yaml:"text" required:"true"`
	Tool `yaml:",inline"`
}

type Tool struct {
	Pan   *pan   `yaml:"pan,omitempty" oneof:"tool"`
	Knife *knife `yaml:"knife,omitempty" oneof:"tool"`
	Other string `yaml:"other,omitempty" oneof:"tool"`
}

type (
	pan struct {
		Size int `yaml:"size" default:"24"`
	}
	knife struct{}
)

type oven struct {
	Heat     int    `yaml:"heat" default:"180"`
	Fan      bool   `yaml:"fan"`
	CodeFile string `yaml:"codeFile"`
}

func (o *oven) Validate(report func(field, problem string)) {
	if o.CodeFile != "" && o.CodeFile[0] != '/' {
		report("codeFile", o.CodeFile+" is not absolute")
	}
	if o.Fan && o.Heat > 200 {
		report("heat", "must be at most 200 with fan")
	}
}

type drink struct {
	Name string `yaml:"name"`
}

// colour is a type that reads its own text.
type colour [1]byte

func (c *colour) UnmarshalText(text []byte) error {
	if string(text) != "red" && string(text) != "blue" {
		return errors.New("must be red or blue, not " + strictyaml.Quote(string(text)))
	}
	c[0] = text[0]
	return nil
}

func (c colour) MarshalText() ([]byte, error) {
	if c[0] == 'b' {
		return []byte("blue"), nil
	}
	return []byte("red"), nil
}

func (r *recipe) Validate(report func(field, problem string)) {
	for i, s := range r.Steps {
		if s.Pan != nil && s.Pan.Size > 40 {
			report("steps["+string(rune('0'+i))+"].pan.size", "no such pan")
		}
	}
	if r.Name == "soup" && r.Course == "dessert" {
		report("", "a soup is no dessert")
	}
}

func TestDefaults(t *testing.T) {
	var got recipe
	doc := "name: soup\nsteps:\n- text: stir\n  pan: {}\n"
	if err := strictyaml.Decode("r.yaml", []byte(doc), &got); err != nil {
		t.Fatal(err)
	}
	want := recipe{
		Name: "soup", Course: "main", Spicy: true, Serves: 4, Boil: 10 * time.Minute, Colour: colour{'r'},
		Steps: []step{{Text: "stir", Tool: Tool{Pan: &pan{Size: 24}}}},
		Oven:  oven{Heat: 180},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEverythingSet(t *testing.T) {
	var got recipe
	doc := `
name: "12"
course: dessert
vegan: true
spicy: false
serves: 12
offset: -2147483648
votes: 18446744073709551615
boil: 1h30m
colour: blue
tags: []
steps:
- {text: cut, knife: {}}
oven: {heat: 0, fan: true}
drink: {name: tea}
limit: 3
`
	if err := strictyaml.Decode("r.yaml", []byte(doc), &got); err != nil {
		t.Fatal(err)
	}
	limit := 3
	want := recipe{
		Name: "12", Course: "dessert", Vegan: true, Serves: 12, Offset: -2147483648, Votes: 1<<64 - 1,
		Boil: 90 * time.Minute, Colour: colour{'b'}, Steps: []step{{Text: "cut", Tool: Tool{Knife: &knife{}}}},
		Oven: oven{Fan: true}, Drink: &drink{Name: "tea"}, Limit: &limit,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestProblems decodes each document in testdata, which is named after what is wrong with it, and compares the error
// with the golden text beside it.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, strings.TrimSuffix(file, ".yaml")+".txt", problems(t, filepath.Base(file), data))
		})
	}
}

func problems(t *testing.T, name string, data []byte) string {
	t.Helper()
	err := strictyaml.Decode(name, data, new(recipe))
	if err == nil {
		t.Fatal("the document was accepted")
	}
	if _, ok := errors.AsType[*strictyaml.Problems](err); !ok {
		t.Fatalf("the error is a %T", err)
	}
	return err.Error() + "\n"
}

func compare(t *testing.T, golden, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestGeneratedProblems(t *testing.T) {
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	for _, test := range []struct{ name, doc, want string }{
		{"empty", "", "f:1: the file is empty"},
		{"only a comment", "# nothing\n", "f:1: the file is empty"},
		{"only a document start", "---\n", "f:1: the file is empty"},
		{"too big", "name: " + strings.Repeat("x", strictyaml.MaxSize), "f:1: the file is larger than 1024 KiB"},
		{"not utf-8", "name: soup\nboil: \xff\n", "f:2: the text is not UTF-8"},
		{"utf-16", "\xff\xfen\x00a\x00", "f:1: the text is not UTF-8"},
		{"too deep", "name: x\ntags: " + deep, "nested deeper than 32 levels"},
		{"far too deep", "tags: " + strings.Repeat("[", 200_000), "not valid YAML"},
		{"list at the top", "- a\n", "f:1: must be fields"},
		{"text at the top", "soup\n", "f:1: must be fields"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := problems(t, "f", []byte(test.doc)); !strings.Contains(got, test.want) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestProblemsAreBounded(t *testing.T) {
	got := problems(t, "f", []byte(strings.Repeat("? {}\n: x\n", 5000)))
	if lines := strings.Count(got, "\n"); lines != 101 || !strings.Contains(got, "more problems are not shown") {
		t.Errorf("%d lines", lines)
	}
}

// TestSecretsAreCut puts a secret into every place of a document and finds at most its beginning in the problems.
func TestSecretsAreCut(t *testing.T) {
	const secret = "hvs.CAESIJ0123456789abcdefghijklmnopqrstuv"
	for _, place := range []string{
		"%", "token: %", "%: token", "name: [%]", "course: %", "vegan: %", "serves: %", "boil: %", "colour: %", "tags: %",
		"steps: %", "steps: [%]", "oven: %", "oven: {heat: %}", "drink: {name: {x: %}}", "oven: {code: %}", "name: x\nsteps: [{text: x, other: x}]\noven: {codeFile: %}", "a: *%", "a: &% x",
		"a: !% x", "a: !!% x", "name: \"%", "name: '%", "name: @%", "name: `%", "%: x: %", "a: !<%> b",
	} {
		got := problems(t, "f", []byte(strings.ReplaceAll(place, "%", secret)+"\n"))
		if strings.Contains(got, secret[:10]) {
			t.Errorf("%s: %s", place, got)
		}
	}
}

func TestQuote(t *testing.T) {
	for value, want := range map[string]string{
		"": `""`, "json": `"json"`,
		"12345678": `"12345678"`, "123456789": `"12345"...`,
		"a\nb": `"a\nb"`, "äöüäöüäöü": `"äöüäö"...`,
	} {
		if got := strictyaml.Quote(value); got != want {
			t.Errorf("Quote(%q) = %s, want %s", value, got, want)
		}
	}
}

func TestDecodePanicsOnProgramMistakes(t *testing.T) {
	for name, into := range map[string]any{
		"no pointer": recipe{},
		"nil":        (*recipe)(nil),
		"map": &struct {
			M map[string]int `yaml:"m"`
		}{},
		"wrong default": &struct {
			D time.Duration `yaml:"d" default:"30"`
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_ = strictyaml.Decode("f", []byte("m: {a: 1}\n"), into)
		})
	}
}

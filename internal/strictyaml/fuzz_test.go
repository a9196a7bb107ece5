package strictyaml_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// FuzzDecode looks for panics, and for documents that say something else once they were written out again.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("name: soup\nsteps: [{text: stir, pan: {size: 2}}, {text: cut, knife: {}}]\nboil: 1h30m\nlimit: 3\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, second recipe
		if err := strictyaml.Decode("f", data, &first); err != nil {
			if err.Error() == "" {
				t.Error("an error without text")
			}
			return
		}
		written, err := yaml.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := strictyaml.Decode("f", written, &second); err != nil {
			t.Fatalf("writing the document out made it wrong: %v\n%s", err, written)
		}
		if !reflect.DeepEqual(first, second) {
			t.Errorf("first  %+v\nsecond %+v", first, second)
		}
	})
}

package layers_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/trousseau-io/trousseau/"

// listed is what go list says of a package. Imports are those of the package without its tests.
type listed struct {
	ImportPath string
	Dir        string
	Imports    []string
	Deps       []string
	Standard   bool
	DepOnly    bool
}

// name is the package's path in this module.
func (p listed) name() string { return strings.TrimPrefix(p.ImportPath, module) }

var goList = sync.OnceValues(func() (map[string]listed, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Imports,Deps,Standard,DepOnly", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, errors.New("go list: " + string(failed.Stderr))
	} else if err != nil {
		return nil, err
	}
	packages := make(map[string]listed)
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages[p.ImportPath] = p
	}
})

// all returns every package that the module links, by import path.
func all(t *testing.T) map[string]listed {
	t.Helper()
	packages, err := goList()
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// ours returns the packages of this module, by their name in it.
func ours(t *testing.T) map[string]listed {
	t.Helper()
	packages := make(map[string]listed)
	for _, p := range all(t) {
		if !p.DepOnly {
			packages[p.name()] = p
		}
	}
	return packages
}

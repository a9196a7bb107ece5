// Package testserver starts real servers as child processes of a test: Vault here, and whatever else a test describes
// as a Command.
//
// It promises that a server is ready when Start returns, that it can be stopped, killed and started again under the same
// address, that its log is shown if the test fails, and that no server outlives the test, not even one that is killed. It
// downloads and builds nothing: what is missing is a skipped test that names the command to run, or a failed one where
// everything is required. Only tests and the lab may import it.
package testserver

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Missing ends a test that needs something this machine does not have. fix says how to get it. Where the environment
// has TROUSSEAU_TEST_REQUIRE=all the test fails, so that nothing goes untested unseen; elsewhere it is skipped.
func Missing(t testing.TB, what, fix string) {
	t.Helper()
	if os.Getenv("TROUSSEAU_TEST_REQUIRE") == "all" {
		t.Fatalf("%s is missing; %s", what, fix)
	}
	t.Skipf("%s is missing; %s", what, fix)
}

// Binary returns the path of a program in the repository's bin folder; without it the test ends as Missing says.
func Binary(t testing.TB, name, fix string) string {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "bin", name)
	if _, err := os.Stat(path); err != nil {
		Missing(t, path, fix)
	}
	return path
}

// Root returns the folder of the root module: the nearest one upwards, past the modules that are nested in it.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for start := dir; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module github.com/trousseau-io/trousseau\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("finding the root module: no folder above %q holds its go.mod", start)
		}
	}
}

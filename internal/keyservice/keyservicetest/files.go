package keyservicetest

import (
	"os"
	"testing"
)

// ReadFile returns the content of a file, which must be there.
func ReadFile[Path ~string](t testing.TB, path Path) string {
	t.Helper()
	content, err := os.ReadFile(string(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// ReplaceFile writes a credential in the place of another, if there is one, as an agent does: atomically, for its owner alone.
func ReplaceFile[Path ~string](t testing.TB, path Path, content string) {
	t.Helper()
	if err := os.WriteFile(string(path)+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(string(path)+".new", string(path)); err != nil {
		t.Fatal(err)
	}
}

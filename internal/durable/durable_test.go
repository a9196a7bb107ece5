package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/trousseau-io/trousseau/internal/durable"
)

func TestReplaceAndRemove(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first", "second, longer", ""} {
		if err := durable.Replace(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("%q, %v, want %q", got, err, content)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	for range 2 { // the second time there is nothing
		if err := durable.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWhatCannotBeChangedStays(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file") // a directory cannot be replaced by a file
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if durable.Replace(path, []byte("x")) == nil || durable.Remove(path) == nil {
		t.Error("no error")
	}
	if durable.Replace(filepath.Join(dir, "none", "file"), nil) == nil {
		t.Error("no error where there is no directory")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

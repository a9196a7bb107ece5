// Command generate writes the files of package configdoc. Run it with "go generate ./internal/configdoc".
package main

import (
	"fmt"
	"os"

	"github.com/trousseau-io/trousseau/internal/configdoc"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate: error:", err)
		os.Exit(1)
	}
}

func run() error {
	files, err := configdoc.Generate()
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

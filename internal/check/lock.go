package check

import (
	"path/filepath"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/lockdown"
)

// locked looks for the marker of a lockdown beside the configuration, which need not be readable, and beside a socket of this
// node.
func locked(configPath, socket string) []finding.Finding {
	path, err := filepath.Abs(configPath)
	if err != nil {
		path = configPath
	}
	marker := lockdown.Of(path, socket)
	if !marker.Locked() {
		return nil
	}
	return []finding.Finding{{
		Rule: "node-locked", Severity: finding.Error, Where: configPath, What: marker.Note().String() + ": the daemon refuses every call",
		Fix: "see docs/operate/lockdown.md; when it is safe, as root: trousseau unlock --config " + configPath,
	}}
}

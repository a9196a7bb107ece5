package upstream

import "fmt"

// ShutOff returns how to find the other plugin: it is stopped by its own means.
func (c Config) ShutOff() string {
	return fmt.Sprintf(`# Stop the other plugin on this node, and its key by its own means. This is who listens:
ss --listening --unix --processes src %s
`, c.Socket)
}

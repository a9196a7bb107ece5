package local

import "fmt"

// ShutOff returns the commands that take this key from the node.
func (c Config) ShutOff() string {
	return fmt.Sprintf(`# A copy of the keystore and of the secret that seals it is the key: no service can take that back. Take it from this node:
mv %[1]s %[1]s.away    # better: to another machine
# If both may have been copied, rotate it ("trousseau keystore rotate") and write everything again.
# Undo: move it back, with the same owner and mode.
`, c.Keystore)
}

package tpm

import "fmt"

// ShutOff returns the commands that take this key from the node.
func (c Config) ShutOff() string {
	return fmt.Sprintf(`# The sealed key opens in this node's TPM alone. Without it the keystore is of no use here; other nodes have their own.
mv %[1]s %[1]s.away    # better: to another machine
# Whoever was root here while the daemon ran may have the key itself: then rotate it and write everything again.
# Undo: move it back, or make another one with "trousseau tpm request" and "trousseau tpm grant".
`, c.SealedKey)
}

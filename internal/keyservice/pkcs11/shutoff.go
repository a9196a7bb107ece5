package pkcs11

import "fmt"

// ShutOff returns the command that changes the PIN of this key's token: PKCS#11 cannot disable a key.
func (c Config) ShutOff() string {
	token := fmt.Sprintf("--token-label '%s'", c.Token)
	if c.Token == "" {
		token = "--slot-index INDEX" // the tool takes no serial number
	}
	return fmt.Sprintf(`# PKCS#11 cannot disable a key. Take the token away, deactivate its partition with the maker's tool, or set another PIN as
# security officer, which shuts out all who use the token with the PIN before:
pkcs11-tool --module %s %s --login --login-type so --init-pin
# Undo: write the new PIN into %s.
`, c.Module, token, c.PINFile)
}

package vault

import "fmt"

// ShutOff returns the commands that take this key from the daemon's token, whoever has a copy of it, and leave it to others.
func (c Config) ShutOff() string {
	server := "-address=" + c.Addresses[0]
	if c.Namespace != "" {
		server += " -namespace=" + c.Namespace
	}
	return fmt.Sprintf(`# POLICY is the policy of the daemon's token. It counts at once, for tokens that exist too. Other users of the key go on.
printf 'path "%[2]s" { capabilities = ["deny"] }\npath "%[3]s" { capabilities = ["deny"] }\n' | vault policy write %[1]s POLICY -
# End every token of the role, so that nobody keeps one; ACCESSOR is in the server's audit log.
vault token revoke %[1]s -accessor ACCESSOR
# Undo: write the policy that "trousseau check --print-policy" prints, and log in with new credentials.
`, server, c.path("encrypt"), c.path("decrypt"))
}

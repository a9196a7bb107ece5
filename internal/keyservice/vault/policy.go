package vault

import "fmt"

// LeastPolicy returns the policy, in HCL, that the token of this key needs and no more. It allows no "create" on encrypt:
// with that, the server would answer the deletion of the key by silently making another.
func (c Config) LeastPolicy() string {
	return fmt.Sprintf(`# Wrap and unwrap. Without "create", so that a deleted key is an error and not a new key.
path %[1]q { capabilities = ["update"] }
path %[2]q { capabilities = ["update"] }

# See the versions of the key, and when they were made.
path %[3]q { capabilities = ["read"] }

# Care for the own token. The policy "default" allows the same; a token without it needs these.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }

# Let "trousseau check" report what the token may do beyond this.
path "sys/capabilities-self" { capabilities = ["update"] }
`, c.path("encrypt"), c.path("decrypt"), c.path("keys"))
}

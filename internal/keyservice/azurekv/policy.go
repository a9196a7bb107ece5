package azurekv

import (
	"fmt"
	"strings"
)

// LeastPolicy returns the definition of a role, as JSON, that allows what this key needs and no more. Its description names
// the built-in role that allows the same data actions: there is no need to make this one where that is taken.
func (c Config) LeastPolicy() string {
	actions := func(prefix, read string) string {
		return strings.Join([]string{prefix + read, prefix + "wrap/action", prefix + "unwrap/action"}, "\",\n    \"")
	}
	if c.ManagedHSM != "" {
		return fmt.Sprintf(`{
  "roleName": "Trousseau",
  "description": "Like the built-in Managed HSM Crypto Service Encryption User. Assign it on /keys/%s.",
  "actions": [],
  "notActions": [],
  "dataActions": [
    "%s"
  ],
  "notDataActions": []
}
`, c.Key, actions("Microsoft.KeyVault/managedHsm/keys/", "read/action"))
	}
	return fmt.Sprintf(`{
  "Name": "Trousseau",
  "IsCustom": true,
  "Description": "Like the built-in Key Vault Crypto Service Encryption User. Assign it on .../vaults/%s/keys/%s.",
  "Actions": [],
  "NotActions": [],
  "DataActions": [
    "%s"
  ],
  "NotDataActions": [],
  "AssignableScopes": ["/subscriptions/SUBSCRIPTION-ID"]
}
`, c.Vault, c.Key, actions("Microsoft.KeyVault/vaults/keys/", "read"))
}

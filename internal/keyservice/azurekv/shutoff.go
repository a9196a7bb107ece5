package azurekv

import "fmt"

// ShutOff returns the commands that disable all versions of this key.
func (c Config) ShutOff() string {
	where := "--vault-name " + c.Vault
	if c.ManagedHSM != "" {
		where = "--hsm-name " + c.ManagedHSM
	}
	return fmt.Sprintf(`# Each version is enabled or disabled by itself; what was sealed earlier is under an earlier one.
for kid in $(az keyvault key list-versions %s --name %s --query '[].kid' --output tsv); do
  az keyvault key set-attributes --id "$kid" --enabled false
done
# Undo: the same with --enabled true.
`, where, c.Key)
}

package azurekv

import "github.com/trousseau-io/trousseau/internal/keyservice"

// Describe returns what the manual says of this key service.
func Describe() keyservice.Description {
	return keyservice.Description{
		Name: "azurekv", Service: "Azure Key Vault, Managed HSM",
		Authentication: "managed identity, workload identity, client certificate, client secret",
		Versions:       "name of the version",
		Tested:         "a fake, never the service",
		Forms: []keyservice.Form{
			{Algorithm: "RSA-OAEP-256, 2048 bits", Version: 32, Wrapped: 256},
			{Algorithm: "A256KW", Version: 32, Wrapped: 48},
		},
	}
}

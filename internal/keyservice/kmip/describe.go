package kmip

import "github.com/trousseau-io/trousseau/internal/keyservice"

// Describe returns what the manual says of this key service.
func Describe() keyservice.Description {
	return keyservice.Description{
		Name: "kmip", Service: "KMIP 1.2 to 1.4 servers",
		Authentication: "TLS client certificate",
		Versions:       "hash of the unique identifier and the initial date",
		Tested:         "PyKMIP 0.10 and a fake; no HSM or appliance was at hand",
		Forms: []keyservice.Form{
			{Algorithm: "AES-GCM", AAD: true, Version: 12, Wrapped: 60},
			{Algorithm: "AES-CBC with HMAC-SHA256", AAD: true, Version: 25, Wrapped: 96},
		},
	}
}

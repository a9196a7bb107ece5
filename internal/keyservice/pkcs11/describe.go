package pkcs11

import "github.com/trousseau-io/trousseau/internal/keyservice"

// Describe returns what the manual says of this key service.
func Describe() keyservice.Description {
	return keyservice.Description{
		Name: "pkcs11", Service: "HSMs with a PKCS#11 module",
		Authentication: "PIN file or systemd credential",
		Versions:       "hash of what the key makes of a constant; RSA: of its modulus",
		Tested:         "SoftHSM 2.6; RSA-OAEP with SHA-256 against a stand-in",
		Forms: []keyservice.Form{
			{Algorithm: "AES-GCM", AAD: true, Version: 12, Wrapped: 60},
			{Algorithm: "AES key wrap with padding", Version: 12, Wrapped: 48},
			{Algorithm: "RSA-2048-OAEP-SHA256", Version: 12, Wrapped: 256},
		},
	}
}

package local

import "github.com/trousseau-io/trousseau/internal/keyservice"

// Describe returns what the manual says of this key service.
func Describe() keyservice.Description {
	return keyservice.Description{
		Name: "local", Service: "keystore file",
		Authentication: "passphrase file, key file or systemd credential",
		Versions:       "hash of the key material",
		Tested:         "itself: there is no service",
		OnNode:         true,
		Forms:          []keyservice.Form{{Algorithm: "AES-256-GCM", AAD: true, Version: 12, Wrapped: 60}},
	}
}

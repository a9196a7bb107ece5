package awskms

import "github.com/trousseau-io/trousseau/internal/keyservice"

// Describe returns what the manual says of this key service.
func Describe() keyservice.Description {
	return keyservice.Description{
		Name: "awskms", Service: "AWS Key Management Service",
		Authentication: "credentials file, environment, web identity (IRSA), container, instance metadata; assumed role",
		Versions:       "hash of key id and key material id",
		Tested:         "a fake that speaks its protocol; the service itself was not asked",
		Forms:          []keyservice.Form{{Algorithm: "AES-256-GCM", AAD: true, Version: 16, Wrapped: 184}},
	}
}

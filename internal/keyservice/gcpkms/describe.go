package gcpkms

import "github.com/trousseau-io/trousseau/internal/keyservice"

// Describe returns what the manual says of this key service.
func Describe() keyservice.Description {
	return keyservice.Description{
		Name: "gcpkms", Service: "Google Cloud KMS",
		Authentication: "workload identity federation, service account key, impersonation, service account of the machine",
		Versions:       "version number and its creation time",
		Tested:         "a fake that speaks its protocol, not the service",
		Forms:          []keyservice.Form{{Algorithm: "AES-256-GCM", AAD: true, Version: 8, Wrapped: 113}},
	}
}

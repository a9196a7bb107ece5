package tpm

import "github.com/trousseau-io/trousseau/internal/keyservice"

// Describe returns what the manual says of this key service.
func Describe() keyservice.Description {
	return keyservice.Description{
		Name: "tpm", Service: "keystore file, its key sealed to each node's TPM 2.0",
		Authentication: "the node's TPM and its PCRs, with a file or systemd credential if wanted",
		Versions:       "hash of the key material",
		Tested:         "swtpm 0.7, a software TPM",
		OnNode:         true,
		Forms:          []keyservice.Form{{Algorithm: "AES-256-GCM", AAD: true, Version: 12, Wrapped: 60}},
	}
}

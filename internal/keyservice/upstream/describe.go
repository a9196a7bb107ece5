package upstream

import "github.com/trousseau-io/trousseau/internal/keyservice"

// Describe returns what the manual says of this key service.
func Describe() keyservice.Description {
	return keyservice.Description{
		Name: "upstream", Service: "another KMS v2 plugin",
		Authentication: "the permissions of its socket",
		Versions:       "hash of the plugin's key id",
		Tested:         "a plugin on the reference server of k8s.io/kms, another Trousseau",
		Forms:          []keyservice.Form{{Algorithm: "the plugin's own (sizes: another Trousseau)", Version: 22, Wrapped: 182}},
	}
}

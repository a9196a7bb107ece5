package vault

import "github.com/trousseau-io/trousseau/internal/keyservice"

// Describe returns what the manual says of this key service.
func Describe() keyservice.Description {
	return keyservice.Description{
		Name: "vault", Service: "HashiCorp Vault, OpenBao (transit)",
		Authentication: "token file, AppRole, JWT file, Kubernetes, TLS certificate, userpass",
		Versions:       "version number and its creation time",
		Tested:         "Vault 1.13; OpenBao was not run",
		Forms:          []keyservice.Form{{Algorithm: "AES-GCM, ChaCha20-Poly1305", AAD: true, Version: 8, Wrapped: 60}},
	}
}

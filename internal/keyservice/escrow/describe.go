package escrow

import "github.com/trousseau-io/trousseau/internal/keyservice"

// Describe returns what the manual says of this key service.
func Describe() keyservice.Description {
	return keyservice.Description{
		Name: "escrow", Service: "age recipients, opened offline",
		Authentication: "none: public keys",
		Versions:       "hash of the recipients",
		Tested:         "the commands of age 1.3 and 1.1, ssh-keygen",
		WrapOnly:       true,
		Forms: []keyservice.Form{
			{Algorithm: "age X25519", AAD: true, Version: 22, Wrapped: 248},
			{Algorithm: "age post-quantum (ML-KEM-768 and X25519)", AAD: true, Version: 22, Wrapped: 1707},
			{Algorithm: "age ssh-ed25519", AAD: true, Version: 22, Wrapped: 260},
			{Algorithm: "age ssh-rsa, 3,072 bits", AAD: true, Version: 22, Wrapped: 689},
		},
	}
}

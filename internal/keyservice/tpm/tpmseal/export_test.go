package tpmseal

import (
	"github.com/google/go-tpm/tpm2"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// AuthValue is what the TPM compares for an auth file.
func AuthValue(auth credential.Secret) []byte { return authValue(auth).Buffer }

// Judged reports whether the table has a line for a code of the TPM.
func Judged(code tpm2.TPMRC) bool {
	for _, k := range kinds {
		for _, cause := range k.causes {
			if cause == error(code) {
				return true
			}
		}
	}
	return false
}

package tpmseal

import (
	"crypto/sha256"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// object is a secret in the form in which one TPM opens it. What a TPM needs beside these fields follows from them.
type object struct {
	parent  [sha256.Size]byte // of whose storage root key: see point.id
	auth    bool              // an authorization value is needed, too
	state   state             // the PCRs that the policy compares
	unique  [sha256.Size]byte // a hash over the secret and a random value
	private []byte            // what the TPM encrypted, or was encrypted for it
}

// origin says who made an object.
type origin bool

const (
	here    origin = false // the TPM itself, for good
	carried origin = true  // a program elsewhere: the TPM imports it
)

// public returns the public area of the object. Only what a TPM made itself can never leave it. An authorization value that
// may be guessed is protected by the TPM's lockout.
func (o *object) public(from origin) (tpm2.TPMTPublic, error) {
	policy, err := o.policy()
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: from == here, FixedParent: from == here, AdminWithPolicy: true, NoDA: !o.auth,
		},
		AuthPolicy: policy,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash,
			&tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: o.unique[:]}),
	}, err
}

// take keeps what the TPM adds to the template when it makes the object.
func (o *object) take(made tpm2.TPM2BPublic) error {
	public, err := made.Contents()
	if err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	unique, err := public.Unique.KeyedHash()
	if err != nil || len(unique.Buffer) != len(o.unique) {
		return fmt.Errorf("%w: it made another object than it was asked for", errAnswer)
	}
	copy(o.unique[:], unique.Buffer)
	return nil
}

// wants refuses to ask the TPM, which counts each wrong authorization, with one too few or one too many.
func (o *object) wants(auth credential.Secret) error {
	switch given := len(auth.Bytes()) > 0; {
	case o.auth && !given:
		return errAuthMissing
	case !o.auth && given:
		return errAuthExtra
	}
	return nil
}

// SealedKey is a secret that one TPM opens for who runs on its node.
type SealedKey struct{ object }

// PCRs returns the PCRs that have to keep their values.
func (s *SealedKey) PCRs() PCRs { return s.state.pcrs }

// NeedsAuth reports whether the secret opens only for who knows the content of an auth file as well.
func (s *SealedKey) NeedsAuth() bool { return s.auth }

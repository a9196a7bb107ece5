package tpmseal

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// Request is what a node shows to another to be granted a secret: the public part of its TPM's storage root key, and the
// state in which it wants to open the grant. It is not secret. Nothing in it proves who made it: people compare the
// fingerprint.
type Request struct {
	parent point
	state  state
}

// Request returns the request of this node, for its present state.
func (d Device) Request(ctx context.Context, pcrs PCRs) (*Request, error) {
	request, err := use(ctx, d, func(t tpm) (*Request, error) {
		parent, err := t.storageKey()
		if err != nil {
			return nil, err
		}
		defer t.flush(parent.handle)
		state, err := t.read(pcrs)
		return &Request{parent: parent.point, state: state}, err
	})
	return request, fail("asking the TPM for its storage root key", err)
}

// PCRs returns the PCRs that have to keep their values until the grant is opened.
func (r *Request) PCRs() PCRs { return r.state.pcrs }

// Fingerprint identifies the request to people: 128 bits of a hash over all of it, in 8 groups of hexadecimal digits.
func (r *Request) Fingerprint() string {
	sum := sha256.Sum256(r.Encode())
	groups := make([]string, 0, 8)
	for i := 0; i < 16; i += 2 {
		groups = append(groups, hex.EncodeToString(sum[i:i+2]))
	}
	return strings.Join(groups, "-")
}

// Grant is a secret that the TPM of a Request opens, in the state that the request has.
type Grant struct {
	object
	seed []byte // of the encryption, itself encrypted for the TPM's storage root key
}

// PCRs returns the PCRs that have to keep their values.
func (g *Grant) PCRs() PCRs { return g.state.pcrs }

// Grant seals secret (1 to MaxSecretSize bytes) for the node that made the request. It needs no TPM: this is what
// TPM2_Duplicate does. The fingerprint is the one that the other node showed; another request is refused.
func (r *Request) Grant(secret credential.Secret, fingerprint string) (*Grant, error) {
	const op = "granting to another node"
	if !strings.EqualFold(strings.TrimSpace(fingerprint), r.Fingerprint()) {
		return nil, fail(op, fmt.Errorf("%w: it has %s", errFingerprint, r.Fingerprint()))
	}
	if err := checkSize(secret); err != nil {
		return nil, fail(op, err)
	}
	grant := &Grant{object: object{parent: r.parent.id(), state: r.state}}
	var err error
	secretmem.Do(func() { err = grant.encrypt(r.parent, secret.Bytes()) })
	if err != nil {
		return nil, fail(op, err)
	}
	return grant, nil
}

// encrypt fills in what depends on the secret.
func (g *Grant) encrypt(parent point, secret []byte) error {
	obfuscation := make([]byte, sha256.Size)
	rand.Read(obfuscation)
	h := sha256.New()
	h.Write(obfuscation)
	h.Write(secret)
	h.Sum(g.unique[:0])

	public, err := g.public(carried)
	if err != nil {
		return err
	}
	name, err := tpm2.ObjectName(&public)
	if err != nil {
		return err
	}
	parentPublic := parent.public()
	key, err := tpm2.ImportEncapsulationKey(&parentPublic)
	if err != nil {
		return fmt.Errorf("%w: its storage root key: %w", errInvalid, err)
	}
	sensitive := tpm2.Marshal(tpm2.TPMTSensitive{
		SensitiveType: tpm2.TPMAlgKeyedHash, SeedValue: tpm2.TPM2BDigest{Buffer: obfuscation},
		Sensitive: tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BSensitiveData{Buffer: secret}),
	})
	defer secretmem.Wipe(sensitive)
	g.private, g.seed, err = tpm2.CreateDuplicate(rand.Reader, key, name.Buffer, sensitive)
	return err
}

// Package tpmseal seals one short secret to the TPM 2.0 of one node, and carries it to the TPM of another.
//
// It promises that a sealed secret opens in the TPM that sealed it alone, and only while the chosen PCRs have the values
// that they had then; that the secret never passes the bus to the TPM in clear; that what a node grants to another opens in
// that node's TPM alone; and that every function returns soon after its context ends, although a TPM cannot be
// interrupted. It knows nothing of keystores. Its byte formats are described in docs/formats.md.
//
// Every error is a *keyservice.Error.
package tpmseal

import (
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// MaxSecretSize is the size in bytes of the largest secret that every TPM seals.
const MaxSecretSize = 128

// Seal seals secret (1 to MaxSecretSize bytes) to the TPM under the present values of pcrs and, unless it is the zero
// Secret, under auth. Both remain the caller's.
func (d Device) Seal(ctx context.Context, secret, auth credential.Secret, pcrs PCRs) (*SealedKey, error) {
	const op = "sealing to the TPM"
	if err := checkSize(secret); err != nil {
		return nil, fail(op, err)
	}
	sealed, err := use(ctx, d, func(t tpm) (*SealedKey, error) {
		parent, err := t.storageKey()
		if err != nil {
			return nil, err
		}
		defer t.flush(parent.handle)
		state, err := t.read(pcrs)
		if err != nil {
			return nil, err
		}
		return parent.create(secret, auth, state)
	})
	return sealed, fail(op, err)
}

func checkSize(secret credential.Secret) error {
	if n := len(secret.Bytes()); n == 0 || n > MaxSecretSize {
		return fmt.Errorf("%w: %d bytes", errSize, n)
	}
	return nil
}

// create has the TPM make the object that holds the secret, which travels encrypted, as auth does.
func (k *storageKey) create(secret, auth credential.Secret, state state) (*SealedKey, error) {
	sealed := &SealedKey{object{parent: k.id(), auth: len(auth.Bytes()) > 0, state: state}}
	template, err := sealed.public(here)
	if err != nil {
		return nil, err
	}
	sensitive := tpm2.TPMSSensitiveCreate{UserAuth: authValue(auth), Data: tpm2.NewTPMUSensitiveCreate(
		&tpm2.TPM2BSensitiveData{Buffer: secret.Bytes()})}
	var made *tpm2.CreateResponse
	secretmem.Do(func() {
		made, err = tpm2.Create{
			ParentHandle: k.authorized(tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, k.salted(), tpm2.AESEncryption(128, tpm2.EncryptIn))),
			InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &sensitive},
			InPublic:     tpm2.New2B(template),
		}.Execute(k.tpm)
	})
	if err != nil {
		return nil, err
	}
	sealed.private = made.OutPrivate.Buffer
	return sealed, sealed.take(made.OutPublic)
}

// Unseal returns what Seal was given. The caller wipes it.
func (d Device) Unseal(ctx context.Context, sealed *SealedKey, auth credential.Secret) (credential.Secret, error) {
	secret, err := use(ctx, d, func(t tpm) (credential.Secret, error) { return t.unseal(&sealed.object, here, nil, auth) })
	return secret, fail("unsealing with the TPM", err)
}

// OpenGrant returns the secret that another node granted to this TPM. The caller wipes it.
func (d Device) OpenGrant(ctx context.Context, grant *Grant) (credential.Secret, error) {
	secret, err := use(ctx, d, func(t tpm) (credential.Secret, error) {
		return t.unseal(&grant.object, carried, grant.seed, credential.Secret{})
	})
	return secret, fail("opening the grant with the TPM", err)
}

// unseal opens an object that lies in a file, or that came from elsewhere with the seed of its encryption.
func (t tpm) unseal(o *object, from origin, seed []byte, auth credential.Secret) (credential.Secret, error) {
	if err := o.wants(auth); err != nil {
		return credential.Secret{}, err
	}
	parent, err := t.storageKey()
	if err != nil {
		return credential.Secret{}, err
	}
	defer t.flush(parent.handle)
	if parent.id() != o.parent {
		return credential.Secret{}, errOtherTPM
	}
	now, err := t.read(o.state.pcrs)
	if err != nil {
		return credential.Secret{}, err
	}
	if changed := o.state.changed(now); changed != 0 {
		return credential.Secret{}, &changedError{changed}
	}
	handle, err := parent.load(o, from, seed)
	if err != nil {
		return credential.Secret{}, err
	}
	defer t.flush(handle.Handle)
	return parent.open(handle, o, auth)
}

// load brings an object into the TPM.
func (k *storageKey) load(o *object, from origin, seed []byte) (tpm2.NamedHandle, error) {
	template, err := o.public(from)
	if err != nil {
		return tpm2.NamedHandle{}, err
	}
	public, private := tpm2.New2B(template), tpm2.TPM2BPrivate{Buffer: o.private}
	if from == carried {
		imported, err := tpm2.Import{
			ParentHandle: k.authorized(tpm2.PasswordAuth(nil)), ObjectPublic: public, Duplicate: private,
			InSymSeed: tpm2.TPM2BEncryptedSecret{Buffer: seed}, Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
		}.Execute(k.tpm)
		if err != nil {
			return tpm2.NamedHandle{}, err
		}
		private = imported.OutPrivate
	}
	loaded, err := tpm2.Load{
		ParentHandle: k.authorized(tpm2.PasswordAuth(nil)), InPrivate: private, InPublic: public,
	}.Execute(k.tpm)
	if err != nil {
		return tpm2.NamedHandle{}, err
	}
	return tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}, nil
}

// open has the TPM open a loaded object. The answer travels encrypted, and auth not at all.
func (k *storageKey) open(handle tpm2.NamedHandle, o *object, auth credential.Secret) (secret credential.Secret, err error) {
	session, _, err := tpm2.PolicySession(k.tpm, tpm2.TPMAlgSHA256, nonceSize, k.salted(),
		tpm2.AESEncryption(128, tpm2.EncryptOut), tpm2.Auth(authValue(auth).Buffer))
	if err != nil {
		return credential.Secret{}, err
	}
	defer k.flush(session.Handle())
	if err := k.satisfy(session.Handle(), o); err != nil {
		return credential.Secret{}, err
	}
	secretmem.Do(func() {
		opened, e := tpm2.Unseal{
			ItemHandle: tpm2.AuthHandle{Handle: handle.Handle, Name: handle.Name, Auth: session},
		}.Execute(k.tpm)
		if err = e; err == nil {
			secret = credential.NewSecret(opened.OutData.Buffer)
			secretmem.Wipe(opened.OutData.Buffer)
		}
	})
	return secret, err
}

package tpmseal

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// nonceSize is the size in bytes of the nonces of sessions.
const nonceSize = 16

// tpm is an open TPM.
type tpm struct{ wire }

// flush forgets an object or a session. The kernel's resource manager does that for who closes the device; a TPM without one
// does not.
func (t tpm) flush(handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(t)
}

// storageKey is the storage root key of a TPM: the elliptic curve key that the TCG's provisioning guidance describes, which a
// TPM makes anew from a seed of its own, always the same until its owner clears it.
type storageKey struct {
	tpm
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
	point  point
}

func (t tpm) storageKey() (*storageKey, error) {
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("making the storage root key: %w", err)
	}
	k := &storageKey{tpm: t, handle: made.ObjectHandle, name: made.Name}
	if err := k.setPublic(&made.OutPublic); err != nil {
		t.flush(k.handle)
		return nil, fmt.Errorf("%w: its storage root key: %w", errAnswer, err)
	}
	return k, nil
}

func (k *storageKey) setPublic(public *tpm2.TPM2BPublic) error {
	contents, err := public.Contents()
	if err != nil {
		return err
	}
	k.public = *contents
	unique, err := contents.Unique.ECC()
	if err != nil {
		return err
	}
	if len(unique.X.Buffer) > coordinateSize || len(unique.Y.Buffer) > coordinateSize {
		return fmt.Errorf("a coordinate has more than %d bytes", coordinateSize)
	}
	copy(k.point[coordinateSize-len(unique.X.Buffer):], unique.X.Buffer)
	copy(k.point[2*coordinateSize-len(unique.Y.Buffer):], unique.Y.Buffer)
	return nil
}

// id names the key in files.
func (k *storageKey) id() [sha256.Size]byte { return k.point.id() }

// authorized names the key as a parent. Nothing is asked of who uses it: what it protects has a policy of its own.
func (k *storageKey) authorized(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: session}
}

// salted makes a session that only the TPM with this key can take part in.
func (k *storageKey) salted() tpm2.AuthOption { return tpm2.Salted(k.handle, k.public) }

// coordinateSize is the size in bytes of a coordinate on the curve P-256.
const coordinateSize = 32

// point is the public part of a storage root key: x and y.
type point [2 * coordinateSize]byte

func (p point) id() [sha256.Size]byte { return sha256.Sum256(p[:]) }

// public returns the key's public area. All but the point is the same for every TPM.
func (p point) public() tpm2.TPMTPublic {
	public := tpm2.ECCSRKTemplate
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: p[:coordinateSize]}, Y: tpm2.TPM2BECCParameter{Buffer: p[coordinateSize:]},
	})
	return public
}

// authValue returns the value that the TPM compares for the content of an auth file: as long as the TPM takes, whatever the
// file's size, and without zero bytes, which a TPM cuts off.
func authValue(auth credential.Secret) tpm2.TPM2BAuth {
	if len(auth.Bytes()) == 0 {
		return tpm2.TPM2BAuth{}
	}
	h := sha256.New()
	h.Write([]byte("trousseau tpm auth\x00"))
	h.Write(auth.Bytes())
	value := make([]byte, sha256.Size)
	base64.RawURLEncoding.Encode(value, h.Sum(nil)[:24])
	return tpm2.TPM2BAuth{Buffer: value}
}

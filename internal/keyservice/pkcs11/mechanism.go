//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// mechanism is a way in which a key wraps. Its methods are given a handle of the secret key, or of the private one of a pair.
type mechanism interface {
	// identity returns bytes that only this key's material gives, always the same ones.
	identity(s session, key p11.ObjectHandle) ([]byte, error)
	// allowed reports what the attributes of the key allow.
	allowed(s session, key p11.ObjectHandle) (seals, opens bool)
	seal(s session, key p11.ObjectHandle, secret, aad []byte) ([]byte, error)
	// open returns an error that is errOpen as well where the module may mean that the bytes do not open.
	open(s session, key p11.ObjectHandle, wrapped, aad []byte) ([]byte, error)
}

func (c Config) mechanism() mechanism {
	switch c.Mechanism {
	case aesWrapPad:
		return keyWrap{p11.CKM_AES_KEY_WRAP_PAD}
	case aesWrapKWP:
		return keyWrap{ckmAESKeyWrapKWP}
	case rsaOAEP:
		return oaep{}
	}
	return gcm{c.HSMIV}
}

// ckmAESKeyWrapKWP is of PKCS#11 3.0, which the library does not know yet.
const ckmAESKeyWrapKWP = 0x210B

// one is a list of one mechanism, as the library wants it.
func one(mechanism uint, parameter any) []*p11.Mechanism {
	return []*p11.Mechanism{p11.NewMechanism(mechanism, parameter)}
}

// constant is what identities of AES keys are made of, and what a key wraps to show that it works.
var constant = []byte("trousseau key id")

// versionID returns the version id of an identity.
func versionID(identity []byte) keyservice.VersionID {
	sum := sha256.Sum256(append([]byte("trousseau pkcs11 version\x00"), identity...))
	return keyservice.VersionID(hex.EncodeToString(sum[:6]))
}

// gcm is AES-GCM. What it makes is the initialization vector (12 bytes), the ciphertext and the tag (16 bytes). Random
// vectors allow 2^32 secrets for each version.
type gcm struct{ hsmIV bool }

const ivSize, tagSize = 12, 16

// identity decrypts the constant as one block of ECB. Decrypting tells nothing that GCM depends on, which only encrypts
// blocks, and a version that may only open what it wrapped before is allowed to.
func (gcm) identity(s session, key p11.ObjectHandle) ([]byte, error) {
	if err := s.DecryptInit(s.handle, one(p11.CKM_AES_ECB, nil), key); err != nil {
		return nil, fmt.Errorf("asking the key which version it is: %w", err)
	}
	return s.Decrypt(s.handle, constant)
}

func (gcm) allowed(s session, key p11.ObjectHandle) (seals, opens bool) {
	return s.is(key, p11.CKA_ENCRYPT), s.is(key, p11.CKA_DECRYPT)
}

func (g gcm) seal(s session, key p11.ObjectHandle, secret, aad []byte) ([]byte, error) {
	iv := make([]byte, ivSize) // zeros are what an HSM that makes its own wants
	if !g.hsmIV {
		rand.Read(iv)
	}
	params := p11.NewGCMParams(iv, aad, 8*tagSize)
	defer params.Free()
	if err := s.EncryptInit(s.handle, one(p11.CKM_AES_GCM, params), key); err != nil {
		return nil, err
	}
	out, err := s.Encrypt(s.handle, secret)
	if err != nil {
		return nil, err
	}
	used := params.IV() // which an HSM may have written whatever it was given
	if len(used) != ivSize || bytes.Equal(used, make([]byte, ivSize)) {
		return nil, errIV
	}
	if len(out) != len(secret)+tagSize {
		return nil, errAnswer
	}
	return append(used, out...), nil
}

func (gcm) open(s session, key p11.ObjectHandle, wrapped, aad []byte) ([]byte, error) {
	if len(wrapped) <= ivSize+tagSize {
		return nil, errOpen
	}
	params := p11.NewGCMParams(wrapped[:ivSize], aad, 8*tagSize)
	defer params.Free()
	if err := s.DecryptInit(s.handle, one(p11.CKM_AES_GCM, params), key); err != nil {
		return nil, err
	}
	out, err := s.Decrypt(s.handle, wrapped[ivSize:])
	return out, doubt(err)
}

// keyWrap is AES key wrap with padding, by C_WrapKey of a session object: modules that also take it in C_Encrypt are few.
// It takes no associated data. What it wraps is
//
//	salt (7 bytes)    because key wrap makes the same of the same
//	size (1 byte)     of the secret
//	secret            with zeros up to a multiple of 8 bytes, because modules differ in what they do to other sizes:
//	                  SoftHSM leaves its own padding there when it unwraps
type keyWrap struct{ mechanism uint }

const blockSize = 8

func (w keyWrap) identity(s session, key p11.ObjectHandle) ([]byte, error) {
	out, err := w.wrap(s, key, constant)
	if err != nil {
		return nil, fmt.Errorf("asking the key which version it is: %w", err)
	}
	return out, nil
}

func (keyWrap) allowed(s session, key p11.ObjectHandle) (seals, opens bool) {
	return s.is(key, p11.CKA_WRAP), s.is(key, p11.CKA_UNWRAP)
}

func (w keyWrap) seal(s session, key p11.ObjectHandle, secret, _ []byte) ([]byte, error) {
	blocks := make([]byte, blockSize+(len(secret)+blockSize-1)/blockSize*blockSize)
	defer clear(blocks)
	rand.Read(blocks[:blockSize-1])
	blocks[blockSize-1] = byte(len(secret))
	copy(blocks[blockSize:], secret)
	return w.wrap(s, key, blocks)
}

// readable are the attributes of a session object that holds what is wrapped or unwrapped. It is destroyed after that.
func readable() []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET),
		p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_SENSITIVE, false),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, true),
	}
}

func (w keyWrap) wrap(s session, key p11.ObjectHandle, value []byte) ([]byte, error) {
	object, err := s.CreateObject(s.handle, append(readable(), p11.NewAttribute(p11.CKA_VALUE, value)))
	if err != nil {
		return nil, err
	}
	out, err := s.WrapKey(s.handle, one(w.mechanism, nil), key, object)
	if destroyErr := s.DestroyObject(s.handle, object); err == nil {
		err = destroyErr
	}
	return out, err
}

func (w keyWrap) open(s session, key p11.ObjectHandle, wrapped, _ []byte) ([]byte, error) {
	object, err := s.UnwrapKey(s.handle, one(w.mechanism, nil), key, wrapped, readable())
	if err != nil {
		return nil, doubt(err)
	}
	value, err := s.GetAttributeValue(s.handle, object, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)})
	if destroyErr := s.DestroyObject(s.handle, object); err == nil {
		err = destroyErr
	}
	if err != nil {
		return nil, err
	}
	blocks := value[0].Value
	defer clear(blocks)
	if len(blocks) < blockSize || len(blocks) < blockSize+int(blocks[blockSize-1]) {
		return nil, errOpen
	}
	return bytes.Clone(blocks[blockSize:][:blocks[blockSize-1]]), nil
}

// oaep is RSA-OAEP with SHA-256, without a label: few HSMs take one.
type oaep struct{}

func (oaep) parameter() []*p11.Mechanism {
	return one(p11.CKM_RSA_PKCS_OAEP, p11.NewOAEPParams(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, p11.CKZ_DATA_SPECIFIED, nil))
}

func (oaep) identity(s session, key p11.ObjectHandle) ([]byte, error) {
	return s.attribute(key, p11.CKA_MODULUS)
}

func (o oaep) allowed(s session, key p11.ObjectHandle) (seals, opens bool) {
	public, err := o.public(s, key)
	return err == nil && s.is(public, p11.CKA_ENCRYPT), s.is(key, p11.CKA_DECRYPT)
}

// public returns the public key of a private one: what has the same modulus, whatever it is called.
func (o oaep) public(s session, key p11.ObjectHandle) (p11.ObjectHandle, error) {
	modulus, err := o.identity(s, key)
	if err != nil {
		return 0, err
	}
	found, err := s.find(p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), p11.NewAttribute(p11.CKA_MODULUS, modulus))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("looking for the public key: %w", errNoKey)
	}
	if err != nil {
		return 0, err
	}
	return found[0], nil
}

func (o oaep) seal(s session, key p11.ObjectHandle, secret, _ []byte) ([]byte, error) {
	public, err := o.public(s, key)
	if err != nil {
		return nil, err
	}
	if err := s.EncryptInit(s.handle, o.parameter(), public); err != nil {
		return nil, err
	}
	return s.Encrypt(s.handle, secret)
}

func (o oaep) open(s session, key p11.ObjectHandle, wrapped, _ []byte) ([]byte, error) {
	if err := s.DecryptInit(s.handle, o.parameter(), key); err != nil {
		return nil, err
	}
	out, err := s.Decrypt(s.handle, wrapped)
	return out, doubt(err)
}

// doubt marks the codes with which modules say, among other things, that bytes do not open.
func doubt(err error) error {
	if err != nil && judge(err).vague {
		return fmt.Errorf("%w: %w", errOpen, err)
	}
	return err
}

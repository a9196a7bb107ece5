package kmip

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
)

// gcm is AES-GCM on the server. KMIP has had a field for associated data and one for the tag since 1.4. What it wraps is
//
//	nonce       12 bytes, random, chosen here
//	ciphertext  as long as the secret
//	tag         16 bytes
var gcm form = gcmForm{}

type gcmForm struct{}

const (
	nonceSize = 12
	tagSize   = 16
)

var gcmParameters = kmip.CryptographicParameters{
	BlockCipherMode: kmip.BlockCipherModeGCM, CryptographicAlgorithm: kmip.CryptographicAlgorithmAES,
	IVLength: nonceSize, TagLength: tagSize,
}

func (gcmForm) versions() []kmip.ProtocolVersion { return []kmip.ProtocolVersion{kmip.V1_4} }

func (gcmForm) problem(v version) error {
	return v.key.problem(kmip.CryptographicAlgorithmAES, usageBoth)
}

func (gcmForm) seal(ctx context.Context, s *servers, op string, v version, secret, aad []byte) ([]byte, error) {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	parameters := gcmParameters
	got, err := ask[*payloads.EncryptResponsePayload](ctx, s, op, &payloads.EncryptRequestPayload{
		UniqueIdentifier: v.key.uid, CryptographicParameters: &parameters, Data: secret, IVCounterNonce: nonce,
		AuthenticatedEncryptionAdditionalData: aad,
	})
	if err != nil {
		return nil, err
	}
	switch {
	case got.UniqueIdentifier != v.key.uid:
		return nil, otherObject(op, v.key.uid, got.UniqueIdentifier)
	case len(got.IVCounterNonce) > 0 && !bytes.Equal(got.IVCounterNonce, nonce):
		return nil, damagedAnswer(op, errors.New("it used another nonce than it was given"))
	case len(got.Data) != len(secret):
		return nil, damagedAnswer(op, fmt.Errorf("a ciphertext of %d bytes", len(got.Data)))
	case len(got.AuthenticatedEncryptionTag) != tagSize:
		return nil, damagedAnswer(op, fmt.Errorf("a tag of %d bytes", len(got.AuthenticatedEncryptionTag)))
	}
	return append(append(nonce, got.Data...), got.AuthenticatedEncryptionTag...), nil
}

func (gcmForm) open(ctx context.Context, s *servers, op string, v version, wrapped, aad []byte) ([]byte, error) {
	if len(wrapped) <= nonceSize+tagSize {
		return nil, corrupt(op, errors.New("they are too short"))
	}
	parameters := gcmParameters
	got, err := ask[*payloads.DecryptResponsePayload](ctx, s, op, &payloads.DecryptRequestPayload{
		UniqueIdentifier: v.key.uid, CryptographicParameters: &parameters,
		IVCounterNonce: wrapped[:nonceSize], Data: wrapped[nonceSize : len(wrapped)-tagSize],
		AuthenticatedEncryptionAdditionalData: aad, AuthenticatedEncryptionTag: wrapped[len(wrapped)-tagSize:],
	})
	if err != nil {
		return nil, err
	}
	return plaintext(op, v, got)
}

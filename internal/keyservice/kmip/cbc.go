package kmip

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// cbcHMAC is AES-CBC, then HMAC-SHA256 with a second key, both on the server. What it wraps is
//
//	iv          16 bytes, random, chosen here
//	ciphertext  the secret with padding to whole blocks of 16 bytes (PKCS #5)
//	mac         32 bytes
//
// and what the MAC is made over is
//
//	1 byte      the length of the version's id
//	            the version's id, so that nothing opens with another key than it was wrapped with
//	8 bytes     the length of the associated data, big endian
//	            the associated data
//	            iv and ciphertext as above
//
// The MAC is compared here before anything is decrypted.
var cbcHMAC form = cbcForm{}

type cbcForm struct{}

const (
	macSize     = sha256.Size
	cbcOverhead = aes.BlockSize + macSize
)

var cbcParameters = kmip.CryptographicParameters{
	BlockCipherMode: kmip.BlockCipherModeCBC, PaddingMethod: kmip.PaddingMethodPKCS5,
	CryptographicAlgorithm: kmip.CryptographicAlgorithmAES,
}

func (cbcForm) versions() []kmip.ProtocolVersion {
	return []kmip.ProtocolVersion{kmip.V1_4, kmip.V1_3, kmip.V1_2}
}

func (cbcForm) problem(v version) error {
	return cmp.Or(v.key.problem(kmip.CryptographicAlgorithmAES, usageBoth),
		v.mac.problem(kmip.CryptographicAlgorithmHMACSHA256, kmip.CryptographicUsageMACGenerate))
}

func (cbcForm) seal(ctx context.Context, s *servers, op string, v version, secret, aad []byte) ([]byte, error) {
	iv := make([]byte, aes.BlockSize, aes.BlockSize+keyservice.MaxSecretSize+aes.BlockSize+macSize)
	rand.Read(iv)
	parameters := cbcParameters
	got, err := ask[*payloads.EncryptResponsePayload](ctx, s, op, &payloads.EncryptRequestPayload{
		UniqueIdentifier: v.key.uid, CryptographicParameters: &parameters, Data: secret, IVCounterNonce: iv,
	})
	if err != nil {
		return nil, err
	}
	switch {
	case got.UniqueIdentifier != v.key.uid:
		return nil, otherObject(op, v.key.uid, got.UniqueIdentifier)
	case len(got.IVCounterNonce) > 0 && !bytes.Equal(got.IVCounterNonce, iv):
		return nil, damagedAnswer(op, errors.New("it used another IV than it was given"))
	case len(got.Data) != len(secret)-len(secret)%aes.BlockSize+aes.BlockSize:
		return nil, damagedAnswer(op, fmt.Errorf("a ciphertext of %d bytes", len(got.Data)))
	}
	sealed := append(iv, got.Data...)
	mac, err := authenticate(ctx, s, op, v, sealed, aad)
	if err != nil {
		return nil, err
	}
	return append(sealed, mac...), nil
}

func (cbcForm) open(ctx context.Context, s *servers, op string, v version, wrapped, aad []byte) ([]byte, error) {
	if len(wrapped) < cbcOverhead+aes.BlockSize || (len(wrapped)-cbcOverhead)%aes.BlockSize != 0 {
		return nil, corrupt(op, errors.New("they are not whole blocks"))
	}
	sealed, stored := wrapped[:len(wrapped)-macSize], wrapped[len(wrapped)-macSize:]
	mac, err := authenticate(ctx, s, op, v, sealed, aad)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac, stored) {
		return nil, corrupt(op, errors.New("the MAC is another one"))
	}
	parameters := cbcParameters
	got, err := ask[*payloads.DecryptResponsePayload](ctx, s, op, &payloads.DecryptRequestPayload{
		UniqueIdentifier: v.key.uid, CryptographicParameters: &parameters,
		IVCounterNonce: sealed[:aes.BlockSize], Data: sealed[aes.BlockSize:],
	})
	if err != nil {
		return nil, err
	}
	return plaintext(op, v, got)
}

// authenticate has the server make the MAC. The library has no type for this operation.
func authenticate(ctx context.Context, s *servers, op string, v version, sealed, aad []byte) ([]byte, error) {
	id := v.id()
	data := append([]byte{byte(len(id))}, id...)
	data = binary.BigEndian.AppendUint64(data, uint64(len(aad)))
	data = append(append(data, aad...), sealed...)
	got, err := ask[*kmip.UnknownPayload](ctx, s, op, kmip.NewUnknownPayload(kmip.OperationMAC,
		ttlv.Value{Tag: kmip.TagUniqueIdentifier, Value: v.mac.uid},
		ttlv.Value{Tag: kmip.TagCryptographicParameters, Value: ttlv.Struct{
			{Tag: kmip.TagCryptographicAlgorithm, Value: ttlv.Enum(kmip.CryptographicAlgorithmHMACSHA256)},
		}},
		ttlv.Value{Tag: kmip.TagData, Value: data},
	))
	if err != nil {
		return nil, err
	}
	var uid string
	var mac []byte
	for _, field := range got.Fields {
		switch value := field.Value.(type) {
		case string:
			uid = value
		case []byte:
			mac = value
		}
	}
	switch {
	case uid != v.mac.uid:
		return nil, otherObject(op, v.mac.uid, uid)
	case len(mac) != macSize:
		return nil, damagedAnswer(op, fmt.Errorf("a MAC of %d bytes", len(mac)))
	}
	return mac, nil
}

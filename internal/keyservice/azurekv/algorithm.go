package azurekv

import (
	"crypto/rand"
	"errors"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

const (
	rsaOAEP = azkeys.EncryptionAlgorithmRSAOAEP256
	aesKW   = azkeys.EncryptionAlgorithmA256KW
)

// block is the size in bytes of what AES key wrap (RFC 3394) works on. It adds one block, takes no fewer than two and gives
// equal output for equal input.
const block = 8

// frame returns a new slice with what is sent to be wrapped. OAEP takes a secret as it is. For AES key wrap it becomes
// whole blocks that are never twice the same:
//
//	byte 0        the number of bytes of the secret, 1 to 60
//	bytes 1 to 7  random
//	bytes 8 ...   the secret, then zeros up to a whole block
//
// A share of 32 bytes becomes 40, wrapped 48. Key wrap itself refuses changed bytes, by 64 bits; what it cannot refuse is
// that the frame is another program's, which unframe does.
func frame(algorithm azkeys.EncryptionAlgorithm, secret []byte) []byte {
	if algorithm == rsaOAEP {
		return slices.Clone(secret)
	}
	framed := make([]byte, block+(len(secret)+block-1)/block*block)
	_, _ = rand.Read(framed[1:block]) // never fails
	framed[0] = byte(len(secret))
	copy(framed[block:], secret)
	return framed
}

// unframe returns the secret in what was unwrapped, which it takes over.
func unframe(algorithm azkeys.EncryptionAlgorithm, framed []byte) ([]byte, error) {
	if algorithm == rsaOAEP {
		return framed, nil
	}
	defer clear(framed)
	if len(framed) < 2*block {
		return nil, errors.New("it is too short for a secret")
	}
	size := int(framed[0])
	secret := framed[block:]
	if size == 0 || len(secret) != (size+block-1)/block*block {
		return nil, errors.New("its length is not that of the secret")
	}
	for _, b := range secret[size:] {
		if b != 0 {
			return nil, errors.New("its padding is not zero")
		}
	}
	return slices.Clone(secret[:size]), nil
}

// couldBeWrapped reports whether a ciphertext can have this many bytes: those of an RSA modulus of 2048, 3072 or 4096 bits,
// or three to ten blocks.
func couldBeWrapped(algorithm azkeys.EncryptionAlgorithm, size int) bool {
	if algorithm == rsaOAEP {
		return size == 256 || size == 384 || size == 512
	}
	return size%block == 0 && size >= 3*block && size <= 10*block
}

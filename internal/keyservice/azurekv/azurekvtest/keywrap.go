package azurekvtest

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// initial is the value that AES key wrap checks (RFC 3394, section 2.2.3.1).
const initial = "\xa6\xa6\xa6\xa6\xa6\xa6\xa6\xa6"

// wrapAES wraps two or more blocks of 8 bytes (RFC 3394, section 2.2.1).
func wrapAES(key, plain []byte) ([]byte, error) {
	n := len(plain) / 8
	if len(plain)%8 != 0 || n < 2 {
		return nil, errors.New("the value is no whole number of blocks, or fewer than two")
	}
	cipher, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out, b := append([]byte(initial), plain...), make([]byte, 16)
	for t := 1; t <= 6*n; t++ {
		block := out[8*((t-1)%n+1):][:8]
		copy(b, out[:8])
		copy(b[8:], block)
		cipher.Encrypt(b, b)
		binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b)^uint64(t))
		copy(block, b[8:])
	}
	return out, nil
}

// unwrapAES is its inverse (RFC 3394, section 2.2.2).
func unwrapAES(key, wrapped []byte) ([]byte, error) {
	n := len(wrapped)/8 - 1
	if len(wrapped)%8 != 0 || n < 2 {
		return nil, errors.New("the value is no whole number of blocks, or fewer than three")
	}
	cipher, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out, b := append([]byte(nil), wrapped...), make([]byte, 16)
	for t := 6 * n; t >= 1; t-- {
		block := out[8*((t-1)%n+1):][:8]
		binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(out)^uint64(t))
		copy(b[8:], block)
		cipher.Decrypt(b, b)
		copy(out, b[:8])
		copy(block, b[8:])
	}
	if subtle.ConstantTimeCompare(out[:8], []byte(initial)) == 0 {
		return nil, errors.New("the value does not open")
	}
	return out[8:], nil
}

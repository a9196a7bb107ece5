package envelope

import (
	"crypto/rand"
	"crypto/sha256"

	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// Shamir's scheme over GF(2^8) with the polynomial x^8 + x^4 + x^3 + x + 1, byte by byte: a root is the value at 0 of random
// polynomials, and the share in slot s their values at s + 1 (docs/formats.md). Neither time nor memory accesses depend on
// secret bytes.

// split returns n shares of a root, any need of which rebuild it. The caller wipes them.
func split(root []byte, need, n int) [][]byte {
	coefficients := make([]byte, need*len(root)) // of each power, from the highest; the root itself comes last
	defer clear(coefficients)
	rand.Read(coefficients)
	copy(coefficients[(need-1)*len(root):], root)
	shares := make([][]byte, n)
	for slot := range shares {
		share, x := make([]byte, len(root)), byte(slot+1)
		for power := range need {
			for i, c := range coefficients[power*len(root) : (power+1)*len(root)] {
				share[i] = multiply(share[i], x) ^ c
			}
		}
		shares[slot] = share
	}
	return shares
}

// join returns what the shares were split from, if there are as many as it needs and all are right. The caller wipes it.
func join(shares []share) []byte {
	root := make([]byte, rootSize)
	for _, s := range shares {
		weight, x := byte(1), byte(s.slot+1)
		for _, other := range shares {
			if o := byte(other.slot + 1); o != x {
				weight = multiply(weight, multiply(o, inverse(o^x)))
			}
		}
		for i := range root {
			root[i] ^= multiply(s.secret[i], weight)
		}
	}
	return root
}

// digestOf returns what tells a share from another one. Hashing keeps a block of what it hashes.
func digestOf(share []byte) (digest [digestSize]byte) {
	secretmem.Do(func() {
		hash := sha256.Sum256(share)
		copy(digest[:], hash[:])
	})
	return digest
}

// share is an opened piece of a root: rootSize bytes.
type share struct {
	slot   int
	secret []byte
}

func multiply(a, b byte) byte {
	var product byte
	for range 8 {
		product ^= -(b & 1) & a
		a = a<<1 ^ -(a>>7)&0x1b
		b >>= 1
	}
	return product
}

// inverse returns a^254, which is 1/a for all a but 0.
func inverse(a byte) byte {
	power := byte(1)
	for range 7 {
		a = multiply(a, a)
		power = multiply(power, a)
	}
	return power
}

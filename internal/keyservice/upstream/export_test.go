package upstream

// Encode returns an answer of a plugin as it is stored.
func Encode(keyID string, annotations map[string][]byte, ciphertext []byte) ([]byte, error) {
	return answer{keyID, annotations, ciphertext}.encode()
}

// Decode is the reverse of Encode.
func Decode(stored []byte) (keyID string, annotations map[string][]byte, ciphertext []byte, err error) {
	a, err := decode(stored)
	return a.keyID, a.annotations, a.ciphertext, err
}

var IsDomainName = isDomainName

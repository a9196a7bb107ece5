package kmip

import (
	"context"
	"fmt"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// form is one way to wrap. Both authenticate the associated data; there is no third.
type form interface {
	// versions are those of the protocol that have what the form needs, the best first.
	versions() []kmip.ProtocolVersion
	// problem returns why the objects of v cannot be used, or nil.
	problem(v version) error
	// seal wraps a secret of 1 to keyservice.MaxSecretSize bytes.
	seal(ctx context.Context, s *servers, op string, v version, secret, aad []byte) ([]byte, error)
	// open undoes seal. Bytes that seal did not make are Corrupt.
	open(ctx context.Context, s *servers, op string, v version, wrapped, aad []byte) ([]byte, error)
}

const usageBoth = kmip.CryptographicUsageEncrypt | kmip.CryptographicUsageDecrypt

// otherObject is the error for an answer that another object than the one asked for was used for: what a server says it
// used is the version that the caller stores.
func otherObject(op, asked, answered string) error {
	return damagedAnswer(op, fmt.Errorf("it used object %q instead of %q", answered, asked))
}

// plaintext checks the answer to Decrypt and returns what was decrypted.
func plaintext(op string, v version, got *payloads.DecryptResponsePayload) ([]byte, error) {
	switch {
	case got.UniqueIdentifier != v.key.uid:
		clear(got.Data)
		return nil, otherObject(op, v.key.uid, got.UniqueIdentifier)
	case len(got.Data) == 0 || len(got.Data) > keyservice.MaxSecretSize:
		clear(got.Data)
		return nil, damagedAnswer(op, fmt.Errorf("a plaintext of %d bytes", len(got.Data)))
	}
	return got.Data, nil
}

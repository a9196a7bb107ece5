// Package gcpkms wraps secrets with a symmetric key in Google Cloud KMS.
//
// It promises that the key version is chosen explicitly and read from the service's own answer, that associated data is
// authenticated, that request and answer are protected by checksums end to end, and that credentials which are replaced
// on disk are taken up. It opens while the service is away. It neither retries nor bounds the time of a call, which its
// callers do; what it does within one call is to get an access token where there is none that is good, once more if the
// service refuses the one there is.
package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"sync"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Key is one CryptoKey. It implements keyservice.Key and keyservice.Inspector.
type Key struct {
	config  Config
	link    *link
	session *session

	mu    sync.Mutex
	known map[int64]int64 // when versions were created, in Unix seconds, by their number
}

var (
	_ keyservice.Key       = (*Key)(nil)
	_ keyservice.Inspector = (*Key)(nil)
)

// Open returns the key that config describes. It contacts nobody and reads no credential: both happen at the first call,
// so that an outage stops no daemon from starting. A configuration that can never work is Invalid. The caller closes the
// key.
func Open(_ context.Context, config Config, log *slog.Logger) (*Key, error) {
	if err := config.check(); err != nil {
		return nil, keyservice.Misconfigured(config.ID(), err)
	}
	return &Key{
		config: config, link: newLink(config.Endpoint), known: make(map[int64]int64),
		session: &session{file: config.CredentialsFile, log: log.With("key", config.ID())},
	}, nil
}

// Wrap implements keyservice.Key. It is one call, and one more for a version that is seen for the first time.
func (k *Key) Wrap(ctx context.Context, version keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	op := "wrapping with " + k.config.ID()
	if err := keyservice.CheckSize(op, secret); err != nil {
		return keyservice.Wrapped{}, err
	}
	name := k.config.Key // the service takes the primary version
	if version != "" {
		v, err := k.pick(ctx, op, version)
		if err != nil {
			return keyservice.Wrapped{}, err
		}
		name = k.config.versionName(v.number)
	}
	got, err := call(ctx, k, op, (*kms.KeyManagementClient).Encrypt, &kmspb.EncryptRequest{
		Name:                              name,
		Plaintext:                         secret,
		PlaintextCrc32C:                   checksum(secret),
		AdditionalAuthenticatedData:       aad,
		AdditionalAuthenticatedDataCrc32C: checksum(aad),
	})
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	number, err := k.checkEncrypted(got)
	if err != nil {
		return keyservice.Wrapped{}, damagedAnswer(op, err)
	}
	v, err := k.identify(ctx, op, number)
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	if version != "" && v.id() != version {
		return keyservice.Wrapped{}, damagedAnswer(op, fmt.Errorf("version %q was asked for, %q wrapped", version, v.id()))
	}
	return keyservice.Wrapped{Version: v.id(), Bytes: got.GetCiphertext()}, nil
}

// maxWrapped bounds what is stored and sent to be unwrapped, in bytes. The longest ciphertext that was seen has 141.
const maxWrapped = 1024

// checkEncrypted returns the number of the version that wrapped, if the answer is whole.
func (k *Key) checkEncrypted(got *kmspb.EncryptResponse) (number int64, err error) {
	switch size := len(got.GetCiphertext()); {
	case !got.GetVerifiedPlaintextCrc32C() || !got.GetVerifiedAdditionalAuthenticatedDataCrc32C():
		return 0, errors.New("the service saw no checksum of what it was sent")
	case !matches(got.GetCiphertext(), got.GetCiphertextCrc32C()):
		return 0, errors.New("the ciphertext does not match its checksum")
	case size == 0 || size > maxWrapped:
		return 0, fmt.Errorf("the ciphertext has %d bytes", size)
	}
	return k.config.versionNumber(got.GetName())
}

// Unwrap implements keyservice.Key. The service finds the version in the ciphertext and does not tell it; that the key has
// the version that wrapped names is made sure of before.
func (k *Key) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	op := "unwrapping with " + k.config.ID()
	if _, err := k.pick(ctx, op, wrapped.Version); err != nil {
		return nil, err
	}
	if len(wrapped.Bytes) == 0 || len(wrapped.Bytes) > maxWrapped {
		return nil, &keyservice.Error{
			Kind: keyservice.Corrupt, Op: op, Err: fmt.Errorf("the ciphertext has %d bytes", len(wrapped.Bytes)),
			Hint: hintCorrupt,
		}
	}
	got, err := call(ctx, k, op, (*kms.KeyManagementClient).Decrypt, &kmspb.DecryptRequest{
		Name:                              k.config.Key,
		Ciphertext:                        wrapped.Bytes,
		CiphertextCrc32C:                  checksum(wrapped.Bytes),
		AdditionalAuthenticatedData:       aad,
		AdditionalAuthenticatedDataCrc32C: checksum(aad),
	})
	if err != nil {
		return nil, err
	}
	secret := got.GetPlaintext()
	if len(secret) == 0 || !matches(secret, got.GetPlaintextCrc32C()) {
		clear(secret)
		return nil, damagedAnswer(op, errors.New("the plaintext does not match its checksum"))
	}
	return secret, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, castagnoli)))
}

// matches reports whether a checksum came with b and is its own.
func matches(b []byte, sum *wrapperspb.Int64Value) bool {
	return sum != nil && sum.GetValue() == checksum(b).GetValue()
}

// Close implements keyservice.Key.
func (k *Key) Close() error {
	k.session.close()
	k.link.close()
	return nil
}

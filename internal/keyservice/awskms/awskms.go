// Package awskms wraps secrets with a symmetric key in AWS KMS.
//
// It promises that the version of what was wrapped is the key material that KMS itself names when it opens it, that a rotation
// (automatic, on demand, or of imported material) gives another version, that replicas of a multi-Region key are one key,
// that an alias is followed once and never again, and that credentials are renewed before they end and read anew when their
// file is replaced. It opens without a service that answers. It neither retries nor bounds the time of a call, which its
// callers do; what it does within one call is to get other credentials once when some are refused.
//
// The SDK encodes requests and decodes answers in buffers of its own: copies of what is wrapped stay there until the garbage
// collector reuses the memory.
package awskms

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// maxWrapped bounds what is sent to be unwrapped, in bytes: KMS takes no more.
const maxWrapped = 6144

// contextName is the name of the one pair of the encryption context. Its value is the base64 of the SHA-256 of the associated
// data: 44 bytes whatever that has, far from KMS's limit of 8192, and fit for an audit log.
const contextName = "trousseau-aad"

// Key is one key. It implements keyservice.Key and keyservice.Inspector.
type Key struct {
	config      Config
	log         *slog.Logger
	transport   *http.Transport
	credentials *credentials
	kms         *kms.Client
	closed      atomic.Bool

	mu     sync.Mutex
	pinned string // ARN of the key; empty until an alias was followed
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
	k := &Key{
		config: config, log: log.With("key", config.ID()), credentials: newCredentials(config),
		transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConnsPerHost: 32,
			IdleConnTimeout:     5 * time.Minute, // longer than the pause between two probes
		},
	}
	options := kms.Options{
		Region: config.target().region, Credentials: k.credentials, Retryer: aws.NopRetryer{},
		HTTPClient: &http.Client{
			Transport:     k.transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if config.Endpoint != "" {
		options.BaseEndpoint = &config.Endpoint
	}
	if config.FIPS {
		options.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
	}
	k.kms = kms.New(options)
	if !config.alias() {
		k.pinned = config.KeyARN
	}
	return k, nil
}

// Wrap implements keyservice.Key. KMS encrypts with the current material, whatever version is asked for, and does not say which
// that is. So the fresh ciphertext is decrypted: that answer names the material, and shows that what is stored will open.
func (k *Key) Wrap(ctx context.Context, _ keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	op := "wrapping with " + k.config.ID()
	if err := keyservice.CheckSize(op, secret); err != nil {
		return keyservice.Wrapped{}, err
	}
	arn, err := k.key(ctx, op)
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	blob, err := k.encrypt(ctx, op, arn, secret, aad)
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	opened, err := k.decrypt(ctx, op, arn, blob, aad)
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	defer clear(opened.Plaintext)
	if subtle.ConstantTimeCompare(opened.Plaintext, secret) != 1 {
		return keyservice.Wrapped{}, damagedAnswer(op, errors.New("what it encrypted opens to something else"))
	}
	id, err := versionOf(op, arn, opened.KeyMaterialId)
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	return keyservice.Wrapped{Version: id, Bytes: blob}, nil
}

// Unwrap implements keyservice.Key. KMS finds the material by the ciphertext. The version is looked at, and not compared with the
// material that opened it: envelopes authenticate it, and nothing that still opens may be lost over a name.
func (k *Key) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	op := "unwrapping with " + k.config.ID()
	if !validVersion(wrapped.Version) {
		return nil, &keyservice.Error{
			Kind: keyservice.NotFound, Op: op, Err: fmt.Errorf("no key in AWS KMS has a version %q", wrapped.Version),
			Hint: hintCorrupt,
		}
	}
	if len(wrapped.Bytes) == 0 || len(wrapped.Bytes) > maxWrapped {
		return nil, &keyservice.Error{
			Kind: keyservice.Corrupt, Op: op, Err: fmt.Errorf("the ciphertext has %d bytes", len(wrapped.Bytes)),
			Hint: hintCorrupt,
		}
	}
	arn, err := k.key(ctx, op)
	if err != nil {
		return nil, err
	}
	opened, err := k.decrypt(ctx, op, arn, wrapped.Bytes, aad)
	if err != nil {
		return nil, err
	}
	return opened.Plaintext, nil
}

func (k *Key) encrypt(ctx context.Context, op, arn string, secret, aad []byte) ([]byte, error) {
	made, err := call(ctx, k, op, func(ctx context.Context) (*kms.EncryptOutput, error) {
		return k.kms.Encrypt(ctx, &kms.EncryptInput{KeyId: &arn, Plaintext: secret, EncryptionContext: bind(aad)})
	})
	if err != nil {
		return nil, k.explain(ctx, op, err)
	}
	if n := len(made.CiphertextBlob); n == 0 || n > maxWrapped {
		return nil, damagedAnswer(op, fmt.Errorf("the ciphertext has %d bytes", n))
	}
	return made.CiphertextBlob, nil
}

// decrypt always names the key, so that another key's ciphertext is refused even where the credentials may open it.
func (k *Key) decrypt(ctx context.Context, op, arn string, blob, aad []byte) (*kms.DecryptOutput, error) {
	opened, err := call(ctx, k, op, func(ctx context.Context) (*kms.DecryptOutput, error) {
		return k.kms.Decrypt(ctx, &kms.DecryptInput{KeyId: &arn, CiphertextBlob: blob, EncryptionContext: bind(aad)})
	})
	if err != nil {
		return nil, k.explain(ctx, op, err)
	}
	if len(opened.Plaintext) == 0 {
		return nil, damagedAnswer(op, errors.New("it has no plaintext"))
	}
	return opened, nil
}

// bind returns the encryption context for associated data.
func bind(aad []byte) map[string]string {
	sum := sha256.Sum256(aad)
	return map[string]string{contextName: base64.StdEncoding.EncodeToString(sum[:])}
}

// call makes one call to KMS. If it is denied, it is made once more with other credentials, as long as there may be any.
func call[Output any](ctx context.Context, k *Key, op string, do func(context.Context) (*Output, error)) (*Output, error) {
	if k.closed.Load() {
		return nil, &keyservice.Error{Kind: keyservice.Unavailable, Op: "using a closed key", Hint: "open the key again"}
	}
	began := time.Now()
	out, err := do(ctx)
	if err == nil {
		return out, nil
	}
	failure := classify(ctx, op, err)
	if failure.Kind == keyservice.Denied && k.credentials.refuse(began) {
		if out, err = do(ctx); err == nil {
			return out, nil
		}
		failure = classify(ctx, op, err)
	}
	return nil, failure
}

// Close implements keyservice.Key.
func (k *Key) Close() error {
	k.closed.Store(true)
	k.transport.CloseIdleConnections()
	return nil
}

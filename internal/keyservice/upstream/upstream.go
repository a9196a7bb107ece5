// Package upstream wraps secrets with another KMS v2 plugin: one that a vendor delivers, or that a cluster leaves behind.
//
// It promises that the version is what the plugin's own answer names, that everything the plugin wants back to open is in
// the wrapped bytes, that an answer which kube-apiserver would refuse is refused here, and that a plugin which restarts is
// used again with the next call. It opens without a plugin that answers.
//
// It does not bind associated data. KMS v2 has none, and to put a hash of it beside the secret would ask plugins to
// encrypt more than the 32 bytes that are all they promise to take. An envelope binds its cluster and policy by its seal
// as well, so a wrapped share that is moved elsewhere may be unwrapped there, and what it is for still does not open. Nor
// can it make a plugin better than it is: if that does not authenticate what it encrypts, the share is not authenticated.
package upstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"google.golang.org/grpc/codes"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Key is another plugin. It implements keyservice.Key and keyservice.Inspector.
type Key struct {
	config Config

	mu               sync.Mutex // guards the following
	current          *connection
	closed           bool
	newest, previous keyservice.VersionID // that Versions saw, or ""
}

var (
	_ keyservice.Key       = (*Key)(nil)
	_ keyservice.Inspector = (*Key)(nil)
)

// Open returns the key that config describes. It contacts nobody: an outage of the plugin stops no daemon from starting. A
// configuration that can never work is Invalid.
func Open(ctx context.Context, config Config, _ *slog.Logger) (*Key, error) {
	const op = "opening upstream plugin"
	if err := config.check(); err != nil {
		return nil, fail(ctx, op, fmt.Errorf("%w: %w", errConfig, err))
	}
	return &Key{config: config}, nil
}

// Wrap asks the plugin for its status, as kube-apiserver does before it trusts one, and then to encrypt the secret. The
// plugin chooses the version, whatever is asked for; aad is not bound.
func (k *Key) Wrap(ctx context.Context, _ keyservice.VersionID, secret, _ []byte) (keyservice.Wrapped, error) {
	const op = "wrapping with upstream plugin"
	a, err := k.encrypt(ctx, secret)
	if err != nil {
		return keyservice.Wrapped{}, fail(ctx, op, err)
	}
	stored, err := a.encode()
	if err != nil {
		return keyservice.Wrapped{}, fail(ctx, op, fmt.Errorf("%w: %w", errAnswer, err))
	}
	return keyservice.Wrapped{Version: version(a.keyID), Bytes: stored}, nil
}

func (k *Key) encrypt(ctx context.Context, secret []byte) (answer, error) {
	if len(secret) == 0 || len(secret) > keyservice.MaxSecretSize {
		return answer{}, fmt.Errorf("%w: %d bytes", errSize, len(secret))
	}
	if _, err := k.status(ctx); err != nil {
		return answer{}, err
	}
	var a answer
	err := k.call(secret, func(plugin kmsv2.KeyManagementServiceClient) error {
		got, err := plugin.Encrypt(ctx, &kmsv2.EncryptRequest{Plaintext: secret, Uid: rand.Text()})
		a = answer{keyID: got.GetKeyId(), annotations: got.GetAnnotations(), ciphertext: got.GetCiphertext()}
		return err
	})
	return a, err
}

// Unwrap asks the plugin to decrypt, whatever its status says: a plugin that is not well may still open.
func (k *Key) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, _ []byte) ([]byte, error) {
	const op = "unwrapping with upstream plugin"
	a, err := decode(wrapped.Bytes)
	if err != nil {
		return nil, fail(ctx, op, err)
	}
	if version(a.keyID) != wrapped.Version {
		return nil, fail(ctx, op, errVersion)
	}
	secret, err := k.decrypt(ctx, a)
	if err != nil {
		return nil, fail(ctx, op, err)
	}
	return secret, nil
}

func (k *Key) decrypt(ctx context.Context, a answer) (secret []byte, err error) {
	err = k.call(a.ciphertext, func(plugin kmsv2.KeyManagementServiceClient) error {
		got, err := plugin.Decrypt(ctx, &kmsv2.DecryptRequest{
			Ciphertext: a.ciphertext, KeyId: a.keyID, Annotations: a.annotations, Uid: rand.Text(),
		})
		secret = got.GetPlaintext()
		return err
	})
	if said, ok := errors.AsType[*refusal](err); ok && said.code == codes.InvalidArgument {
		return nil, fmt.Errorf("%w: %w", errRefused, err) // they are all that we sent
	}
	if err != nil {
		return nil, err
	}
	if n := len(secret); n == 0 || n > keyservice.MaxSecretSize {
		clear(secret)
		return nil, fmt.Errorf("%w: the plaintext has %d bytes", errAnswer, n)
	}
	return secret, nil
}

// Versions returns the version whose key id the plugin announces, and the one that it announced before, if this Key has
// seen that. The plugin does not tell when they were made.
func (k *Key) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	status, err := k.status(ctx)
	if err != nil {
		return newest, previous, fail(ctx, "listing versions of upstream plugin", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if id := version(status.KeyId); id != k.newest {
		k.newest, k.previous = id, k.newest
	}
	newest.ID = k.newest
	if k.previous != "" {
		previous = keyservice.Version{ID: k.previous, State: keyservice.StateOpenOnly} // nobody can ask for it
	}
	return newest, previous, nil
}

// status returns what the plugin says of itself if it is well and can be right.
func (k *Key) status(ctx context.Context) (got *kmsv2.StatusResponse, err error) {
	err = k.call(nil, func(plugin kmsv2.KeyManagementServiceClient) (err error) {
		got, err = plugin.Status(ctx, &kmsv2.StatusRequest{})
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case got.Healthz != "ok":
		return nil, fmt.Errorf("%w: %.*q", errUnhealthy, maxQuote, got.Healthz)
	case got.Version != "v2" && got.Version != "v2beta1":
		return nil, fmt.Errorf("%w: its version is %.20q", errOldAPI, got.Version)
	}
	if err := checkKeyID(got.KeyId); err != nil {
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	return got, nil
}

// Package azurekv wraps secrets with a key in Azure Key Vault or Azure Managed HSM.
//
// It promises that the version which wraps is chosen explicitly and is enabled, that the answer names it, that tokens go to
// nobody but the vault whose name is configured, and that files with secrets are read again at each log in. It opens without
// a service that answers. It neither retries nor bounds the time of a call, which its callers do. It cannot bind associated
// data: neither RSA-OAEP as the service offers it nor AES key wrap takes any.
package azurekv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Key is one key. It implements keyservice.Key and keyservice.Inspector.
type Key struct {
	config Config
	client *azkeys.Client
	idle   func() // closes connections that nobody uses
	closed atomic.Bool
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
	web, err := newHTTPClient(config.CAFile)
	if err != nil {
		return nil, &keyservice.Error{
			Kind: keyservice.Invalid, Op: "opening " + config.ID(), Err: err, Hint: "name a PEM file that this process can read in caFile",
		}
	}
	client, err := azkeys.NewClient(config.url(), &entra{config, web, log.With("key", config.ID())}, &azkeys.ClientOptions{
		ClientOptions: clientOptions(web), DisableChallengeResourceVerification: config.onThisHost(),
	})
	if err != nil {
		return nil, keyservice.Misconfigured(config.ID(), err)
	}
	return &Key{config: config, client: client, idle: web.CloseIdleConnections}, nil
}

// clientOptions are those of every part of the SDK.
func clientOptions(web policy.Transporter) policy.ClientOptions {
	return policy.ClientOptions{
		Transport: web,
		Retry:     policy.RetryOptions{MaxRetries: -1}, // none: callers retry
		Telemetry: policy.TelemetryOptions{ApplicationID: "trousseau"},
	}
}

// Wrap implements keyservice.Key. It lists the versions first, also when one is named: the service has been seen to wrap with
// a disabled version of an RSA key, and nothing would open that.
func (k *Key) Wrap(ctx context.Context, id keyservice.VersionID, secret, _ []byte) (keyservice.Wrapped, error) {
	op := "wrapping with " + k.config.ID()
	if err := keyservice.CheckSize(op, secret); err != nil {
		return keyservice.Wrapped{}, err
	}
	version, err := k.pick(ctx, op, id)
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	value := frame(k.config.Algorithm, secret)
	got, err := call(ctx, k, request{op: op, value: value}, func(ctx context.Context) (azkeys.WrapKeyResponse, error) {
		return k.client.WrapKey(ctx, k.config.Key, string(version.id), k.parameters(value), nil)
	})
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	if got.KID.Version() != string(version.id) || !couldBeWrapped(k.config.Algorithm, len(got.Result)) {
		return keyservice.Wrapped{}, damagedAnswer(op, fmt.Errorf("%d bytes of version %.64q, asked was for %q",
			len(got.Result), got.KID.Version(), version.id))
	}
	return keyservice.Wrapped{Version: version.id, Bytes: got.Result}, nil
}

// Unwrap implements keyservice.Key. The service opens versions that have expired, and refuses those that are disabled.
func (k *Key) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, _ []byte) ([]byte, error) {
	op := "unwrapping with " + k.config.ID()
	if !versionName.MatchString(string(wrapped.Version)) {
		return nil, noVersion(op, wrapped.Version)
	}
	corrupt := func(err error) error {
		return &keyservice.Error{Kind: keyservice.Corrupt, Op: op, Err: err, Hint: hintCorrupt}
	}
	if !couldBeWrapped(k.config.Algorithm, len(wrapped.Bytes)) {
		return nil, corrupt(fmt.Errorf("the ciphertext has %d bytes, which none of %s has", len(wrapped.Bytes), k.config.Algorithm))
	}
	value := slices.Clone(wrapped.Bytes)
	r := request{op: op, unwraps: true, value: value}
	got, err := call(ctx, k, r, func(ctx context.Context) (azkeys.UnwrapKeyResponse, error) {
		return k.client.UnwrapKey(ctx, k.config.Key, string(wrapped.Version), k.parameters(value), nil)
	})
	if err != nil {
		return nil, err
	}
	if len(got.Result) == 0 {
		return nil, damagedAnswer(op, errors.New("it holds nothing"))
	}
	secret, err := unframe(k.config.Algorithm, got.Result)
	if err != nil {
		return nil, corrupt(fmt.Errorf("what was unwrapped is none of this program's secrets: %w", err))
	}
	return secret, nil
}

func (k *Key) parameters(value []byte) azkeys.KeyOperationParameters {
	return azkeys.KeyOperationParameters{Algorithm: &k.config.Algorithm, Value: value}
}

// request is what an error needs to know of a call.
type request struct {
	op      string
	unwraps bool
	value   []byte // what is sent, which no error shows; the call wipes it
}

// call runs f and returns at once when ctx ends. The SDK does not: those who need a token wait, whatever becomes of them,
// until the one of them who asks for it has an answer. What f was given is its own, since it may outlive the call.
func call[T any](ctx context.Context, k *Key, r request, f func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		answer T
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		answer, err := attempt(ctx, k, r, f)
		done <- outcome{answer, err}
	}()
	select {
	case o := <-done:
		return o.answer, o.err
	case <-ctx.Done():
		var none T
		return none, ended(ctx, r.op)
	}
}

func attempt[T any](ctx context.Context, k *Key, r request, f func(context.Context) (T, error)) (answer T, err error) {
	defer clear(r.value)
	defer func() {
		if recover() != nil { // the SDK looks beyond the end of a malformed challenge
			err = notAVault(r.op, errors.New("its challenge to log in is malformed"))
		}
	}()
	switch {
	case k.closed.Load():
		err = &keyservice.Error{
			Kind: keyservice.Unavailable, Op: r.op, Err: errors.New("the key is closed"), Hint: "open the key again",
		}
	case ctx.Err() != nil:
		err = ended(ctx, r.op)
	default:
		if answer, err = f(ctx); err != nil {
			err = classify(ctx, r, err)
		}
	}
	return answer, err
}

// Close implements keyservice.Key. A token cannot be revoked; it is forgotten with the key.
func (k *Key) Close() error {
	k.closed.Store(true)
	k.idle()
	return nil
}

// Package kmip wraps secrets with an AES key that stays in a server which speaks KMIP, the Key Management Interoperability
// Protocol of HSMs, storage appliances and key managers.
//
// It promises that everything it wraps is authenticated together with the associated data, by AES-GCM or by AES-CBC with
// HMAC-SHA256; that a version of a key is one managed object, whose state is respected; and that nothing a server answers
// ends the process. It opens without a server that answers. It neither retries nor bounds the time of a call, which its
// callers do; what it does within one call is to ask the next address when one is away, and to send a request again over
// a new connection when the server has closed an idle one.
//
// The messages are those of github.com/ovh/kmip-go. The connections are not: its client decodes answers in goroutines of
// its own, where a malformed answer is a panic that nobody can recover from, and it bounds no answer's size.
package kmip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/ovh/kmip-go"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Key is one key with all its versions. It implements keyservice.Key and keyservice.Inspector.
type Key struct {
	config  Config
	form    form
	servers *servers

	mu    sync.Mutex
	known catalog // what the last read of the objects said; the zero value before
}

var (
	_ keyservice.Key       = (*Key)(nil)
	_ keyservice.Inspector = (*Key)(nil)
)

// Open returns the key that config describes. It contacts nobody and reads no file: both happen at the first call, so that
// an outage stops no daemon from starting. A configuration that can never work is Invalid. The caller closes the key.
func Open(_ context.Context, config Config, log *slog.Logger) (*Key, error) {
	if err := config.check(); err != nil {
		return nil, keyservice.Misconfigured(config.ID(), err)
	}
	log = log.With("key", config.ID())
	return &Key{config: config, form: config.form(), servers: newServers(config, log)}, nil
}

// Wrap implements keyservice.Key. It reads the objects first, unless the version is named and known from the last read.
func (k *Key) Wrap(ctx context.Context, id keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	op := "wrapping with " + k.config.ID()
	if err := keyservice.CheckSize(op, secret); err != nil {
		return keyservice.Wrapped{}, err
	}
	v, err := k.sealing(ctx, op, id)
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	bytes, err := k.form.seal(ctx, k.servers, op, v, secret, aad)
	if err != nil {
		return keyservice.Wrapped{}, k.explain(ctx, op, v, err)
	}
	return keyservice.Wrapped{Version: v.id(), Bytes: bytes}, nil
}

// maxWrapped bounds what is sent to be unwrapped, in bytes. The longest real one has 128.
const maxWrapped = 1024

// Unwrap implements keyservice.Key. Only objects that belong to the key open: the version is looked up among them, and is
// never sent as a name. It reads the objects when the last read does not know the version.
func (k *Key) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	op := "unwrapping with " + k.config.ID()
	if len(wrapped.Bytes) > maxWrapped {
		return nil, corrupt(op, fmt.Errorf("they have %d bytes", len(wrapped.Bytes)))
	}
	v, ok := k.last().find(wrapped.Version)
	if !ok {
		all, err := k.read(ctx, op)
		if err != nil {
			return nil, err
		}
		if v, ok = all.find(wrapped.Version); !ok {
			return nil, noVersion(op, wrapped.Version)
		}
	}
	secret, err := k.form.open(ctx, k.servers, op, v, wrapped.Bytes, aad)
	if err == nil {
		return secret, nil
	}
	said, ok := errors.AsType[*refusal](err)
	if ok && said.operation == kmip.OperationDecrypt && said.reason == kmip.ResultReasonGeneralFailure && k.works(ctx, op, v) {
		return nil, corrupt(op, said)
	}
	return nil, k.explain(ctx, op, v, err)
}

// works reports whether the server wraps and unwraps with v. Some servers, PyKMIP among them, say "general failure" where
// the standard wants "cryptographic failure": one that works well otherwise means the bytes.
func (k *Key) works(ctx context.Context, op string, v version) bool {
	probe := []byte("trousseau probe")
	bytes, err := k.form.seal(ctx, k.servers, op, v, probe, nil)
	if err != nil {
		return false
	}
	_, err = k.form.open(ctx, k.servers, op, v, bytes, nil)
	return err == nil
}

// Close implements keyservice.Key. It closes the connections; those in use end with their call.
func (k *Key) Close() error {
	k.servers.close()
	return nil
}

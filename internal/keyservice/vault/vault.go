// Package vault wraps secrets with a key in the transit engine of HashiCorp Vault (the Community edition too) or OpenBao.
//
// It promises that the key version is chosen explicitly and read from the server's own answer, that a key which was
// deleted and made again under its name gives other version ids, that tokens are renewed and replaced before they end, and
// that nothing but the configuration decides where requests go: no environment variable, no proxy and no redirect. It
// opens without a server that answers. It neither retries nor bounds the time of a call, which its callers do; what it
// does within one call is to ask the next address when one is away, and to log in again once when a token is refused.
package vault

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// Key is one transit key. It implements keyservice.Key and keyservice.Inspector.
type Key struct {
	config  Config
	servers *servers
	session *session

	mu    sync.Mutex
	known settings // what the last read of the key said; the zero value before
}

var (
	_ keyservice.Key       = (*Key)(nil)
	_ keyservice.Inspector = (*Key)(nil)
)

// Open returns the key that config describes. It contacts nobody and reads no credential: both happen at the first call,
// so that an outage stops no daemon from starting. A configuration that can never work is Invalid. The caller closes the
// key; ctx ends nothing that outlives this call.
func Open(ctx context.Context, config Config, log *slog.Logger) (*Key, error) {
	if err := config.check(); err != nil {
		return nil, keyservice.Misconfigured(config.ID(), err)
	}
	log = log.With("key", config.ID())
	servers, err := newServers(config, log)
	if err != nil {
		return nil, &keyservice.Error{
			Kind: keyservice.Invalid, Op: "opening " + config.ID(), Err: err,
			Hint: "name PEM files that this process can read in caFile, clientCertFile and clientKeyFile",
		}
	}
	return &Key{config: config, servers: servers, session: newSession(ctx, config.Auth, servers, log)}, nil
}

// encrypted is the data of the answer to encrypt.
type encrypted struct {
	Ciphertext string `json:"ciphertext"`
	KeyVersion int    `json:"key_version"`
}

// Wrap implements keyservice.Key. It is one call when the version is named and known from the last read of the key, and
// reads the key first otherwise: the newest version is the one that the server has now. What it stores is Vault's ciphertext without "vault:vN:" and without base64: the
// number is in the version's id, and every byte is copied into every object in etcd.
func (k *Key) Wrap(ctx context.Context, version keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	op := "wrapping with " + k.config.ID()
	if err := keyservice.CheckSize(op, secret); err != nil {
		return keyservice.Wrapped{}, err
	}
	v, err := k.pick(ctx, op, version)
	if err != nil {
		return keyservice.Wrapped{}, err
	}
	var got encrypted
	encoded := encryptBody(secret, aad, v.number)
	err = k.call(ctx, op, request{method: "POST", path: k.config.path("encrypt"), secret: secret, encoded: encoded}, &got)
	if err != nil { // the HTTP client may still be reading what was sent: it is left to the garbage collector, which erases it
		return keyservice.Wrapped{}, k.explain(ctx, op, v, err)
	}
	clear(encoded)
	bytes, err := decodeCiphertext(got, v.number, len(secret))
	if err != nil {
		return keyservice.Wrapped{}, damagedAnswer(op, err)
	}
	return keyservice.Wrapped{Version: v.id(), Bytes: bytes}, nil
}

// encryptBody returns the JSON of a request to encrypt. Package json would keep copies of the secret in its buffers.
func encryptBody(secret, aad []byte, version int) (body []byte) {
	const fixed = len(`{"plaintext":"","associated_data":"","key_version":}`) + 20 // and the digits of any number
	secretmem.Do(func() {
		body = make([]byte, 0, fixed+base64.StdEncoding.EncodedLen(len(secret))+base64.StdEncoding.EncodedLen(len(aad)))
		body = append(body, `{"plaintext":"`...)
		body = base64.StdEncoding.AppendEncode(body, secret)
		if len(aad) > 0 {
			body = append(body, `","associated_data":"`...)
			body = base64.StdEncoding.AppendEncode(body, aad)
		}
		body = append(body, `","key_version":`...)
		body = strconv.AppendInt(body, int64(version), 10)
		body = append(body, '}')
	})
	return body
}

// overhead is the size in bytes of a nonce and a tag, the least that every supported cipher adds.
const overhead = 12 + 16

// decodeCiphertext checks that an answer is what was asked for: "vault:v3:" and base64, under the version asked for.
func decodeCiphertext(got encrypted, number, size int) ([]byte, error) {
	encoded, ok := strings.CutPrefix(got.Ciphertext, fmt.Sprintf("vault:v%d:", number))
	if !ok || (got.KeyVersion != number && got.KeyVersion != 0) {
		return nil, fmt.Errorf("the ciphertext is not one of key version %d", number)
	}
	bytes, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, errors.New("the ciphertext is not base64")
	}
	if len(bytes) < size+overhead || len(bytes) > maxWrapped {
		return nil, fmt.Errorf("the ciphertext has %d bytes", len(bytes))
	}
	return bytes, nil
}

// maxWrapped bounds what is sent to be unwrapped, in bytes. The longest real ciphertext has 100.
const maxWrapped = 1024

type decryptBody struct {
	Ciphertext     string `json:"ciphertext"`
	AssociatedData []byte `json:"associated_data,omitempty"`
}

// Unwrap implements keyservice.Key. It asks the server whatever creation time the version's id has, because only the
// server can tell what it still opens: a secret that was wrapped in the moment between a key's recreation and its notice
// has the old id and is not lost. When nothing opens, the creation time tells a recreated key from damage.
func (k *Key) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	op := "unwrapping with " + k.config.ID()
	v, ok := parseVersion(wrapped.Version)
	if !ok {
		return nil, noVersion(op, wrapped.Version)
	}
	if len(wrapped.Bytes) <= overhead || len(wrapped.Bytes) > maxWrapped {
		return nil, &keyservice.Error{
			Kind: keyservice.Corrupt, Op: op, Err: fmt.Errorf("the ciphertext has %d bytes", len(wrapped.Bytes)),
			Hint: hintCorrupt,
		}
	}
	var got struct {
		Plaintext []byte `json:"plaintext"`
	}
	err := k.call(ctx, op, request{method: "POST", path: k.config.path("decrypt"), body: decryptBody{
		Ciphertext:     fmt.Sprintf("vault:v%d:%s", v.number, base64.StdEncoding.EncodeToString(wrapped.Bytes)),
		AssociatedData: aad,
	}}, &got)
	if err != nil {
		return nil, k.explain(ctx, op, v, err)
	}
	if len(got.Plaintext) == 0 {
		return nil, damagedAnswer(op, errors.New("it has no plaintext"))
	}
	return got.Plaintext, nil
}

// call makes one authenticated call and decodes the data of its answer. A refused token is replaced once.
func (k *Key) call(ctx context.Context, op string, r request, data any) error {
	token, err := k.session.token(ctx, nil)
	if err != nil {
		return within(op, err)
	}
	got, err := k.servers.do(ctx, op, r.with(token))
	if err != nil && keyservice.KindOf(err) == keyservice.Denied {
		other, loginErr := k.session.token(ctx, token)
		if errors.Is(loginErr, errNoOther) {
			return err
		}
		if loginErr != nil {
			return within(op, loginErr)
		}
		got, err = k.servers.do(ctx, op, r.with(other))
	}
	if err != nil {
		return err
	}
	return got.decode(op, data)
}

// within says during which operation something else failed, and keeps its kind and hint.
func within(op string, err error) error {
	return &keyservice.Error{Kind: keyservice.KindOf(err), Op: op, Hint: keyservice.HintOf(err), Err: err}
}

// Close implements keyservice.Key. It revokes the token if this key logged in for it, as far as a second allows, and
// never a token that came from a file.
func (k *Key) Close() error {
	k.session.close()
	k.servers.close()
	return nil
}

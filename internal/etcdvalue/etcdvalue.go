// Package etcdvalue tells what one stored value is: which provider wrote it, and what it carries beside the data.
//
// It decodes what the API server's own code would, and opens nothing: it needs no key.
package etcdvalue

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"google.golang.org/protobuf/proto"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
)

// ErrNotKMS means that the value was not written by a KMS provider.
var ErrNotKMS = errors.New("not written by a KMS provider")

const (
	prefixAny = "k8s:enc:"
	prefixV1  = "k8s:enc:kms:v1:"
	prefixV2  = "k8s:enc:kms:v2:"
)

// Value is what a KMS provider has stored.
type Value struct {
	API         string // "v1" or "v2"
	Provider    string // name in the EncryptionConfiguration
	KeyID       string // "" with v1
	Ciphertext  []byte // what the plugin answered: the wrapped seed or key
	Annotations map[string][]byte
}

// Parse takes a value apart. One newline at its end, as etcdctl prints, is borne. The Value shares memory with data.
func Parse(data []byte) (Value, error) {
	value, err := parse(data)
	if trimmed, cut := bytes.CutSuffix(data, []byte("\n")); err != nil && cut {
		if value, err := parse(trimmed); err == nil {
			return value, nil
		}
	}
	return value, err
}

func parse(data []byte) (Value, error) {
	if rest, ok := bytes.CutPrefix(data, []byte(prefixV2)); ok {
		return parseV2(rest)
	}
	if rest, ok := bytes.CutPrefix(data, []byte(prefixV1)); ok {
		return parseV1(rest)
	}
	if bytes.HasPrefix(data, []byte(prefixAny)) {
		provider, _, _ := bytes.Cut(data[len(prefixAny):], []byte(":"))
		return Value{}, fmt.Errorf("reading value: %w but by %.32q", ErrNotKMS, provider)
	}
	return Value{}, fmt.Errorf("reading value: %w: it does not begin with %q, so it is stored in clear or is no value of etcd",
		ErrNotKMS, prefixAny)
}

func parseV2(data []byte) (Value, error) {
	name, body, ok := bytes.Cut(data, []byte(":"))
	if !ok {
		return Value{}, errors.New("reading value: it ends in the provider's name")
	}
	var o kmstypes.EncryptedObject
	if err := proto.Unmarshal(body, &o); err != nil {
		return Value{}, fmt.Errorf("reading value: it is cut or changed: %w", err)
	}
	if err := kmsv2.ValidateEncryptedObject(&o); err != nil {
		return Value{}, fmt.Errorf("reading value: %w", err)
	}
	return Value{API: "v2", Provider: string(name), KeyID: o.KeyID, Ciphertext: o.EncryptedDEKSource, Annotations: o.Annotations}, nil
}

// parseV1 takes the name to end at the first colon. The API server allows colons in names of v1 providers, and only the
// EncryptionConfiguration could tell.
func parseV1(data []byte) (Value, error) {
	name, body, ok := bytes.Cut(data, []byte(":"))
	s := cryptobyte.String(body)
	var wrapped cryptobyte.String
	if !ok || !s.ReadUint16LengthPrefixed(&wrapped) || s.Empty() {
		return Value{}, errors.New("reading value: it is cut, or its provider's name contains a colon")
	}
	return Value{API: "v1", Provider: string(name), Ciphertext: wrapped}, nil
}

package daemon

import (
	"fmt"

	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	protobuf "google.golang.org/protobuf/proto"
	kmsv1beta1 "k8s.io/kms/apis/v1beta1"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// codec encodes messages as gRPC's own does, and leaves no copy of them: it wipes a request's bytes once they are decoded, an
// answer's bytes once gRPC has written them, and the plaintext of an answer once it is encoded. A message that it has encoded
// cannot be used again.
type codec struct{}

// Name is what clients call this encoding.
func (codec) Name() string { return proto.Name }

// Marshal returns the encoded message in a buffer that is wiped when gRPC frees it.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	message, ok := v.(protobuf.Message)
	if !ok {
		return nil, fmt.Errorf("encoding a message: %T is none", v)
	}
	defer wipe(message)
	buffer := wipingPool{}.Get(protobuf.Size(message))
	var err error
	secretmem.Do(func() { _, err = protobuf.MarshalOptions{UseCachedSize: true}.MarshalAppend((*buffer)[:0], message) })
	if err != nil {
		wipingPool{}.Put(buffer)
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	return mem.BufferSlice{mem.NewBuffer(buffer, wipingPool{})}, nil
}

// Unmarshal decodes data and wipes it, also when it fails. gRPC says that nobody may change a buffer, because others may hold
// it as well; nobody else holds what a connection has received.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	defer func() {
		for _, part := range data {
			secretmem.Wipe(part.ReadOnlyData())
		}
	}()
	message, ok := v.(protobuf.Message)
	if !ok {
		return fmt.Errorf("decoding a message: %T is none", v)
	}
	whole := data.MaterializeToBuffer(wipingPool{}) // the only part itself, or a copy of many
	defer whole.Free()
	var err error
	secretmem.Do(func() { err = protobuf.Unmarshal(whole.ReadOnlyData(), message) })
	return err
}

// wipe zeroes the plaintext in a message.
func wipe(message any) {
	switch m := message.(type) { // the getters take nil
	case *kmsv2.EncryptRequest:
		secretmem.Wipe(m.GetPlaintext())
	case *kmsv2.DecryptResponse:
		secretmem.Wipe(m.GetPlaintext())
	case *kmsv1beta1.EncryptRequest:
		secretmem.Wipe(m.GetPlain())
	case *kmsv1beta1.DecryptResponse:
		secretmem.Wipe(m.GetPlain())
	}
}

// unpooled is the largest size in bytes of which gRPC never gives a buffer back.
const unpooled = 1024

// wipingPool makes buffers for gRPC and wipes them when they are given back. It keeps none.
type wipingPool struct{}

// Get returns a new buffer, large enough for gRPC to give it back.
func (wipingPool) Get(length int) *[]byte {
	buffer := make([]byte, length, max(length, unpooled+1))
	return &buffer
}

// Put wipes a buffer, all of it.
func (wipingPool) Put(buffer *[]byte) { secretmem.Wipe((*buffer)[:cap(*buffer)]) }

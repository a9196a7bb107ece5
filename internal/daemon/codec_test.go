package daemon_test

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	kmsv1beta1 "k8s.io/kms/apis/v1beta1"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/daemon"
)

func TestCodecWipesAnswers(t *testing.T) {
	for _, size := range []int{0, 32, 512, 1024, 1025, 64 << 10} {
		v2, v1beta1 := bytes.Repeat([]byte{'s'}, size), bytes.Repeat([]byte{'s'}, size)
		for _, answer := range []proto.Message{&kmsv2.DecryptResponse{Plaintext: v2}, &kmsv1beta1.DecryptResponse{Plain: v1beta1}} {
			want, err := proto.Marshal(answer)
			if err != nil {
				t.Fatal(err)
			}
			data, err := daemon.Codec{}.Marshal(answer)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(data.Materialize(), want) {
				t.Errorf("%T of %d bytes is encoded as something else than gRPC's own codec makes of it", answer, size)
			}
			buffer := data[0].ReadOnlyData()
			data.Free()
			if !wiped(buffer[:cap(buffer)]) {
				t.Errorf("%T of %d bytes: its encoding is there after gRPC has given it back", answer, size)
			}
		}
		if !wiped(v2) || !wiped(v1beta1) {
			t.Errorf("a plaintext of %d bytes is there after it was encoded", size)
		}
	}
}

func TestCodecLeavesWhatIsNotSecret(t *testing.T) {
	answer := &kmsv2.EncryptResponse{Ciphertext: []byte("ciphertext"), KeyId: "t1.", Annotations: map[string][]byte{"a.b": {1}}}
	want := proto.Clone(answer)
	if _, err := (daemon.Codec{}).Marshal(answer); err != nil || !proto.Equal(answer, want) {
		t.Errorf("%v, then %v", err, answer)
	}
}

func TestCodecWipesRequests(t *testing.T) {
	for _, size := range []int{32, 64 << 10} { // in one frame, and in frames of a connection that sends more
		want := &kmsv2.EncryptRequest{Plaintext: bytes.Repeat([]byte{'s'}, size), Uid: "uid"}
		for _, parts := range []int{1, 2, 7} {
			encoded, err := proto.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			var got kmsv2.EncryptRequest
			if err := (daemon.Codec{}).Unmarshal(split(encoded, parts), &got); err != nil || !proto.Equal(&got, want) {
				t.Errorf("%d bytes in %d parts: %v, or another request", size, parts, err)
			}
			if !wiped(encoded) {
				t.Errorf("%d bytes in %d parts: there after they were decoded", size, parts)
			}
		}
	}
}

func TestCodecRefuses(t *testing.T) {
	for name, encoded := range map[string][]byte{
		"cut":                 {0x0a, 0x20, 's', 's'},
		"a field without end": bytes.Repeat([]byte{0xff}, 16),
	} {
		for _, parts := range []int{1, 2} {
			b := bytes.Clone(encoded)
			if err := (daemon.Codec{}).Unmarshal(split(b, parts), &kmsv2.EncryptRequest{}); err == nil || !wiped(b) {
				t.Errorf("%s, in %d parts: %v, wiped: %t", name, parts, err, wiped(b))
			}
		}
	}
	for _, v := range []any{nil, "text", 7} {
		b := []byte{0x0a, 0x01, 's'}
		if err := (daemon.Codec{}).Unmarshal(split(b, 1), v); err == nil || !wiped(b) {
			t.Errorf("decoding into %T: %v, wiped: %t", v, err, wiped(b))
		}
		if _, err := (daemon.Codec{}).Marshal(v); err == nil {
			t.Errorf("encoding %T: no error", v)
		}
	}
	if _, err := (daemon.Codec{}).Marshal(&kmsv2.DecryptRequest{Uid: "\xff"}); err == nil {
		t.Error("encoding a string that is not UTF-8: no error")
	}
	var nothing kmsv2.DecryptRequest
	if err := (daemon.Codec{}).Unmarshal(nil, &nothing); err != nil || !proto.Equal(&nothing, &kmsv2.DecryptRequest{}) {
		t.Errorf("an empty message: %v", err)
	}
}

// split returns b in that many parts, all of them in b.
func split(b []byte, parts int) (data mem.BufferSlice) {
	for ; parts > 1; parts-- {
		n := len(b) / parts
		data, b = append(data, mem.SliceBuffer(b[:n])), b[n:]
	}
	return append(data, mem.SliceBuffer(b))
}

func wiped(b []byte) bool { return bytes.Equal(b, make([]byte, len(b))) }

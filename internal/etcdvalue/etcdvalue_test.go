package etcdvalue_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"

	"github.com/trousseau-io/trousseau/internal/etcdvalue"
)

// stored returns a value that KMS v2 could have written.
func stored(t testing.TB) string {
	t.Helper()
	body, err := proto.Marshal(&kmstypes.EncryptedObject{
		EncryptedData: []byte("data"), KeyID: "key-1", EncryptedDEKSource: []byte("seed"),
		Annotations:            map[string][]byte{"a.example": []byte("b")},
		EncryptedDEKSourceType: kmstypes.EncryptedDEKSourceType_HKDF_SHA256_XNONCE_AES_GCM_SEED,
	})
	if err != nil {
		t.Fatal(err)
	}
	return "k8s:enc:kms:v2:trousseau:" + string(body)
}

func TestV2(t *testing.T) {
	for name, data := range map[string]string{"plain": stored(t), "from etcdctl": stored(t) + "\n"} {
		v, err := etcdvalue.Parse([]byte(data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v.API != "v2" || v.Provider != "trousseau" || v.KeyID != "key-1" || string(v.Ciphertext) != "seed" || string(v.Annotations["a.example"]) != "b" {
			t.Errorf("%s: got %+v", name, v)
		}
	}
}

func TestV1(t *testing.T) {
	v, err := etcdvalue.Parse([]byte("k8s:enc:kms:v1:trousseau:\x00\x03keydata"))
	if err != nil || v.API != "v1" || v.Provider != "trousseau" || v.KeyID != "" || string(v.Ciphertext) != "key" {
		t.Errorf("got %+v, %v", v, err)
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		data   string
		notKMS bool
	}{
		"empty":              {"", true},
		"in clear":           {"k8s\x00\n\x0c\n\x02v1\x12\x06Secret", true},
		"another provider":   {"k8s:enc:aesgcm:v1:key1:0123", true},
		"v2 without a body":  {"k8s:enc:kms:v2:trousseau", false},
		"v2 with empty body": {"k8s:enc:kms:v2:trousseau:", false},
		"v2 cut":             {stored(t)[:40], false},
		"v1 cut":             {"k8s:enc:kms:v1:trousseau:\x00\x10key", false},
		"v1 without data":    {"k8s:enc:kms:v1:trousseau:\x00\x03key", false},
	} {
		_, err := etcdvalue.Parse([]byte(test.data))
		if err == nil || errors.Is(err, etcdvalue.ErrNotKMS) != test.notKMS || !strings.HasPrefix(err.Error(), "reading value: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse looks for panics, and for values without what every value has.
func FuzzParse(f *testing.F) {
	f.Add([]byte(stored(f)))
	f.Add([]byte("k8s:enc:kms:v1:trousseau:\x00\x03keydata"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := etcdvalue.Parse(data)
		if err == nil && v.API == "v2" && (len(v.Ciphertext) == 0 || v.KeyID == "") {
			t.Errorf("%q gives %+v", data, v)
		}
	})
}

package kmip_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip/kmiptest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// reasons are the kinds of all result reasons of KMIP 1.4 and 2.1, and of one that is a vendor's own. What is not listed
// between 1 and 0x4C (four numbers) is reserved.
var reasons = map[keyservice.Kind][]kmipgo.ResultReason{
	keyservice.NotFound:    {0x01, 0x13, 0x36, 0x37, 0x41, 0x42},
	keyservice.Denied:      {0x03, 0x0C, 0x14, 0x15, 0x19, 0x25, 0x39},
	keyservice.Disabled:    {0x0D, 0x1A, 0x40, 0x43},
	keyservice.Throttled:   {0x3A},
	keyservice.Unavailable: {0x09, 0x2A, 0x44, 0x48, 0x49, 0x100, 0x80000001},
	keyservice.Invalid: {
		0x02, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0A, 0x0B, 0x0E, 0x0F, 0x10, 0x11, 0x12, 0x16, 0x17, 0x18, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F,
		0x20, 0x21, 0x22, 0x23, 0x24, 0x26, 0x28, 0x29, 0x2B, 0x2C, 0x2D, 0x2E, 0x2F, 0x30, 0x32, 0x34, 0x35, 0x3B, 0x3C, 0x3D,
		0x3E, 0x3F, 0x45, 0x46, 0x47, 0x4A, 0x4B, 0x4C,
	},
}

func TestEveryReason(t *testing.T) {
	t.Parallel()
	f := kmiptest.Start(t)
	f.CreateKey("k8s")
	key := open(t, config(f, "k8s", ""), nil)
	w := keyservicetest.Wrap(t, key, "")
	echo := fmt.Sprintf("you sent %s, which is %x or %X", secret, secret, secret)
	n := 0
	for kind, list := range reasons {
		for _, reason := range list {
			n++
			repair := f.Fail(reason, echo)
			_, err := key.Wrap(t.Context(), w.Version, secret, aad)
			keyservicetest.WantKind(t, err, kind, "the server says")
			said, digits := strings.ToLower(err.Error()), hex.EncodeToString(secret)
			if strings.Contains(said, string(secret)) || strings.Contains(said, digits) {
				t.Errorf("the secret is in the error: %v", err)
			}
			repair()
			repair = f.Fail(reason, "as ordered") // what was not sent cannot be known for a secret
			_, err = key.Unwrap(t.Context(), w, aad)
			if reason == kmipgo.ResultReasonCryptographicFailure {
				keyservicetest.WantKind(t, err, keyservice.Corrupt, "")
			} else {
				keyservicetest.WantKind(t, err, kind, "")
			}
			_, _, err = key.Versions(t.Context())
			keyservicetest.WantKind(t, err, kind, "Locate")
			repair()
		}
	}
	if n != 0x4C-4+2 {
		t.Errorf("%d reasons are listed", n)
	}
	keyservicetest.Unwrap(t, key, w)
}

// TestGeneralFailureOfDamage: a server that says so of damaged bytes, and else works, means the bytes.
func TestGeneralFailureOfDamage(t *testing.T) {
	t.Parallel()
	server := kmiptest.StartPyKMIP(t)
	k := &pyKey{Client: server.Admin(t), name: "k8s"}
	k.create(t)
	c := kmip.Config{
		Addresses: []string{server.Address}, CAFile: server.CA.File, ClientCertFile: server.ClientCert,
		ClientKeyFile: credential.File(server.ClientKey), Key: kmip.Object{UniqueID: k.uid},
	}
	key := open(t, c, nil)
	w := keyservicetest.Wrap(t, key, "")
	w.Bytes[20] ^= 1
	_, err := key.Unwrap(t.Context(), w, aad)
	keyservicetest.WantKind(t, err, keyservice.Corrupt, "general failure")

	// A server with TLS 1.2 refuses a certificate in the clear, so that it might be anybody.
	c.ClientCertFile, _ = testserver.NewCA(t).Issue(t, "stranger")
	_, other := testserver.NewCA(t).Issue(t, "stranger")
	c.ClientKeyFile = credential.File(other)
	_, _, err = open(t, c, nil).Versions(t.Context())
	keyservicetest.WantKind(t, err, keyservice.Denied, "no pair")
	c.ClientCertFile, other = testserver.NewCA(t).Issue(t, "stranger")
	c.ClientKeyFile = credential.File(other)
	_, _, err = open(t, c, nil).Versions(t.Context())
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "unknown certificate authority")
}

func TestProtocolVersions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mac   string
		speak []kmipgo.ProtocolVersion
		works bool
	}{
		{"", []kmipgo.ProtocolVersion{kmipgo.V1_3, kmipgo.V1_4}, true},
		{"", []kmipgo.ProtocolVersion{kmipgo.V1_2, kmipgo.V1_3}, false},
		{"k8s-mac", []kmipgo.ProtocolVersion{kmipgo.V1_2}, true},
		{"k8s-mac", []kmipgo.ProtocolVersion{kmipgo.V1_0, kmipgo.V1_1}, false},
	} {
		f := kmiptest.Start(t)
		f.Speak(c.speak...)
		f.CreateKey("k8s")
		f.CreateMAC("k8s-mac")
		key := open(t, config(f, "k8s", c.mac), nil)
		if c.works {
			keyservicetest.RoundTrip(t, key)
			continue
		}
		_, err := key.Wrap(t.Context(), "", secret, aad)
		keyservicetest.WantKind(t, err, keyservice.Invalid, "is needed")
	}
}

// TestAnswersThatCannotBeRight changes one thing in the answers of a server that is well.
func TestAnswersThatCannotBeRight(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]func(kmipgo.OperationPayload){
		"another nonce": func(p kmipgo.OperationPayload) {
			if answer, ok := p.(*payloads.EncryptResponsePayload); ok {
				answer.IVCounterNonce = make([]byte, 12)
			}
		},
		"another object": func(p kmipgo.OperationPayload) {
			if answer, ok := p.(*payloads.EncryptResponsePayload); ok {
				answer.UniqueIdentifier += "x"
			}
		},
		"no tag": func(p kmipgo.OperationPayload) {
			if answer, ok := p.(*payloads.EncryptResponsePayload); ok {
				answer.AuthenticatedEncryptionTag = nil
			}
		},
		"half a ciphertext": func(p kmipgo.OperationPayload) {
			if answer, ok := p.(*payloads.EncryptResponsePayload); ok {
				answer.Data = answer.Data[:16]
			}
		},
		"attributes of another object": func(p kmipgo.OperationPayload) {
			if answer, ok := p.(*payloads.GetAttributesResponsePayload); ok {
				answer.UniqueIdentifier += "x"
			}
		},
		"no state": func(p kmipgo.OperationPayload) {
			if answer, ok := p.(*payloads.GetAttributesResponsePayload); ok {
				answer.Attribute = answer.Attribute[:1]
			}
		},
	} {
		f := kmiptest.Start(t)
		f.Tamper(tamper)
		f.CreateKey("k8s")
		_, err := open(t, config(f, "k8s", ""), nil).Wrap(t.Context(), "", secret, aad)
		if err == nil || keyservice.KindOf(err) != keyservice.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := kmiptest.Start(t)
	f.Tamper(func(p kmipgo.OperationPayload) {
		switch answer := p.(type) {
		case *payloads.DecryptResponsePayload:
			answer.Data = make([]byte, 61)
		case *kmipgo.UnknownPayload: // the MAC, in request and answer
			if len(answer.Fields) == 2 {
				answer.Fields[1].Value = make([]byte, 16)
			}
		}
	})
	f.CreateKey("k8s")
	f.CreateMAC("k8s-mac")
	key := open(t, config(f, "k8s", ""), nil)
	_, err := key.Unwrap(t.Context(), keyservicetest.Wrap(t, key, ""), aad)
	keyservicetest.WantKind(t, err, keyservice.Corrupt, "plaintext of 61 bytes")
	_, err = open(t, config(f, "k8s", "k8s-mac"), nil).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Corrupt, "MAC of 16 bytes")
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	f := kmiptest.Start(t)
	f.CreateKey("k8s")
	key := open(t, config(f, "k8s", ""), nil)
	w := keyservicetest.Wrap(t, key, "")
	defer f.Proxy.Set(testserver.Stall)()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := key.Unwrap(ctx, w, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "")
	if !errors.Is(err, context.DeadlineExceeded) || keyservice.Canceled(err) {
		t.Errorf("error %v", err)
	}
}

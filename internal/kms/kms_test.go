package kms_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsv1beta1 "k8s.io/kms/apis/v1beta1"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/kms"
)

var (
	prod = envelope.Cluster{Name: "prod-eu-1", Lineage: [16]byte{0x7f}}
	seed = []byte("0123456789abcdef0123456789abcdef")
)

// services catches what a Plugin registers, so that it is called without a connection.
type services struct {
	kmsv2.KeyManagementServiceServer
	v1     kmsv1beta1.KeyManagementServiceServer
	plugin *kms.Plugin
	log    *lockedBuffer
	stop   func()
}

func (s *services) RegisterService(_ *grpc.ServiceDesc, impl any) {
	switch impl := impl.(type) {
	case kmsv2.KeyManagementServiceServer:
		s.KeyManagementServiceServer = impl
	case kmsv1beta1.KeyManagementServiceServer:
		s.v1 = impl
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSpace(b.String()), "\n")
}

func ring(t *testing.T, policies ...*envelope.Policy) *envelope.Ring {
	t.Helper()
	r, err := envelope.NewRing(policies...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func policy(t *testing.T, generation uint32, id string, key keyservice.Key) *envelope.Policy {
	t.Helper()
	p, err := envelope.NewPolicy(prod, generation, 1, envelope.Member{ID: id, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func setup(t *testing.T, key keyservice.Key) kms.Setup {
	return kms.Setup{Ring: ring(t, policy(t, 0, "fake", key)), ProbeInterval: 30 * time.Second, ActivationDelay: 2 * time.Minute}
}

// start runs a Plugin until the test ends, and waits for its first probe.
func start(t *testing.T, setup kms.Setup) *services {
	t.Helper()
	s := &services{log: new(lockedBuffer)}
	s.plugin = kms.New(setup, slog.New(slog.NewTextHandler(s.log, nil)))
	kms.RegisterV2(s, s.plugin)
	kms.RegisterV1beta1(s, s.plugin, "test")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.plugin.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	s.stop = func() { cancel(); <-done }
	t.Cleanup(s.stop)
	synctest.Wait()
	return s
}

func (s *services) keyID(t *testing.T) string {
	t.Helper()
	got, err := s.Status(t.Context(), &kmsv2.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Healthz != "ok" || got.Version != "v2" {
		t.Fatalf("status %v", got)
	}
	return got.KeyId
}

func (s *services) encrypt(t *testing.T) *kmsv2.EncryptResponse {
	t.Helper()
	got, err := s.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: bytes.Clone(seed), Uid: "u"})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (s *services) decrypt(t *testing.T, sealed *kmsv2.EncryptResponse) error {
	t.Helper()
	got, err := s.Decrypt(t.Context(), &kmsv2.DecryptRequest{
		Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyId, Annotations: sealed.Annotations, Uid: "u",
	})
	if err == nil && !bytes.Equal(got.Plaintext, seed) {
		t.Errorf("decrypted %q", got.Plaintext)
	}
	return err
}

func (s *services) wantStatus(t *testing.T, want codes.Code) {
	t.Helper()
	_, err := s.Status(t.Context(), &kmsv2.StatusRequest{})
	if got := status.Code(err); got != want {
		t.Errorf("status answers %s, want %s: %v", got, want, err)
	}
}

func TestRoundTripV2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, setup(t, keyservicetest.NewFake(time.Now())))
		sealed := s.encrypt(t)
		if sealed.KeyId != s.keyID(t) || sealed.Annotations != nil {
			t.Errorf("encrypted under %q, status says %q; annotations %v", sealed.KeyId, s.keyID(t), sealed.Annotations)
		}
		if err := s.decrypt(t, sealed); err != nil {
			t.Error(err)
		}
	})
}

func TestRoundTripV1beta1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, setup(t, keyservicetest.NewFake(time.Now())))
		version, err := s.v1.Version(t.Context(), &kmsv1beta1.VersionRequest{Version: "v1beta1"})
		if err != nil || version.Version != "v1beta1" {
			t.Fatal(version, err)
		}
		for _, plain := range []string{"ping", string(seed)} {
			sealed, err := s.v1.Encrypt(t.Context(), &kmsv1beta1.EncryptRequest{Version: "v1beta1", Plain: []byte(plain)})
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.v1.Decrypt(t.Context(), &kmsv1beta1.DecryptRequest{Version: "v1beta1", Cipher: sealed.Cipher})
			if err != nil || string(got.Plain) != plain {
				t.Errorf("%q, %v", got.GetPlain(), err)
			}
		}
		if _, err := s.v1.Encrypt(t.Context(), &kmsv1beta1.EncryptRequest{Version: "v9", Plain: seed}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("another version: %v", err)
		}
	})
}

// Between Status and Encrypt the service has a new version: Encrypt still uses the announced one.
func TestEncryptUsesWhatStatusAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		announced := s.keyID(t)
		fake.Rotate(time.Now().Add(-time.Hour))
		if got := s.encrypt(t).KeyId; got != announced {
			t.Errorf("announced %q, encrypted under %q", announced, got)
		}
	})
}

// A service that cannot choose the version, such as AWS KMS, rotates by itself.
func TestServiceChoosesItsVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		announced := s.keyID(t)
		chosen := fake.Rotate(time.Now().Add(-time.Hour))
		fake.Break(keyservicetest.Fault{Other: chosen.ID})
		sealed := s.encrypt(t)
		if sealed.KeyId == announced || s.keyID(t) != sealed.KeyId {
			t.Errorf("announced %q, then sealed under %q, then announced %q", announced, sealed.KeyId, s.keyID(t))
		}
		if err := s.decrypt(t, sealed); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if s.keyID(t) != sealed.KeyId {
			t.Error("the next probe announced the old key id again")
		}
	})
}

func TestBadRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		before := fake.Calls("")
		for name, plaintext := range map[string][]byte{"empty": nil, "oversize": make([]byte, 513)} {
			_, err := s.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: plaintext})
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("encrypting %s: %v", name, err)
			}
		}
		if fake.Calls("") != before {
			t.Error("the key service was asked")
		}
		good := s.encrypt(t)
		other := start(t, setup(t, keyservicetest.NewFake(time.Now()))).encrypt(t)
		tests := map[string]struct {
			req  *kmsv2.DecryptRequest
			code codes.Code
		}{
			"nothing":            {&kmsv2.DecryptRequest{}, codes.InvalidArgument},
			"empty ciphertext":   {&kmsv2.DecryptRequest{KeyId: good.KeyId}, codes.DataLoss},
			"no key id":          {&kmsv2.DecryptRequest{Ciphertext: good.Ciphertext}, codes.InvalidArgument},
			"unknown key id":     {&kmsv2.DecryptRequest{Ciphertext: good.Ciphertext, KeyId: "1"}, codes.InvalidArgument},
			"another's key id":   {&kmsv2.DecryptRequest{Ciphertext: good.Ciphertext, KeyId: other.KeyId}, codes.InvalidArgument},
			"unknown annotation": {&kmsv2.DecryptRequest{Ciphertext: good.Ciphertext, KeyId: good.KeyId, Annotations: map[string][]byte{"a.b": {1}}}, codes.InvalidArgument},
			"empty annotation":   {&kmsv2.DecryptRequest{Ciphertext: good.Ciphertext, KeyId: good.KeyId, Annotations: map[string][]byte{"shares.trousseau.io": {}}}, codes.InvalidArgument},
			"share annotation":   {&kmsv2.DecryptRequest{Ciphertext: good.Ciphertext, KeyId: good.KeyId, Annotations: map[string][]byte{"shares.trousseau.io": {1}}}, codes.DataLoss},
			"another material":   {&kmsv2.DecryptRequest{Ciphertext: other.Ciphertext, KeyId: other.KeyId}, codes.NotFound},
		}
		for name, test := range tests {
			_, err := s.Decrypt(t.Context(), test.req)
			if status.Code(err) != test.code || !strings.Contains(err.Error(), ";") {
				t.Errorf("%s: %v, want %s and a hint", name, err, test.code)
			}
		}
	})
}

package kms_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
	"k8s.io/kms/pkg/service"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/kms"
)

// What follows is driven by the API server's own code, over a real socket: it is the oracle.

const secret = "apiVersion: v1, kind: Secret, password: correct horse"

var (
	secretKey = value.DefaultContext("/registry/secrets/default/db") // an API server binds a value to its key of etcd
	otherKey  = value.DefaultContext("/registry/secrets/default/web")
)

// serve runs a Plugin with quick probes on a Unix socket until the test ends, and returns the socket's address.
func serve(t *testing.T, setup kms.Setup) (endpoint string, plugin *kms.Plugin) {
	t.Helper()
	setup.ProbeInterval, setup.ActivationDelay = 20*time.Millisecond, 0
	plugin = kms.New(setup, slog.New(slog.DiscardHandler))
	path := filepath.Join(t.TempDir(), "kms.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	kms.RegisterV2(server, plugin)
	kms.RegisterV1beta1(server, plugin, "test")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- server.Serve(listener) }()
	go func() { done <- plugin.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		server.Stop()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return "unix://" + path, plugin
}

func dialV2(t *testing.T, endpoint string) service.Service {
	t.Helper()
	client, err := kmsv2.NewGRPCService(t.Context(), endpoint, t.Name(), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// apiServer has the part of an API server that the loader of EncryptionConfiguration hides: its state, and when it
// makes a new seed.
type apiServer struct {
	value.Transformer
	client service.Service
	state  kmsv2.State
}

func newAPIServer(t *testing.T, endpoint string) *apiServer {
	t.Helper()
	a := &apiServer{client: dialV2(t, endpoint)}
	a.Transformer = kmsv2.NewEnvelopeTransformer(a.client, t.Name(), func() (kmsv2.State, error) { return a.state, nil }, "")
	a.newSeed(t)
	return a
}

// newSeed is what an API server does when Status announces another key id.
func (a *apiServer) newSeed(t *testing.T) {
	t.Helper()
	announced, err := a.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kmsv2.ValidateKeyID(announced.KeyID); err != nil {
		t.Fatal(err)
	}
	transformer, object, cacheKey, err := kmsv2.GenerateTransformer(t.Context(), "uid", a.client, true)
	if err != nil {
		t.Fatal(err)
	}
	if object.KeyID != announced.KeyID {
		t.Fatalf("encrypted under %q, announced %q: an API server refuses that", object.KeyID, announced.KeyID)
	}
	a.state = kmsv2.State{
		Transformer: transformer, CacheKey: cacheKey, ExpirationTimestamp: time.Now().Add(3 * time.Minute),
		EncryptedObjectKeyID: object.KeyID, EncryptedObjectEncryptedDEKSource: object.EncryptedDEKSource,
		EncryptedObjectAnnotations: object.Annotations, EncryptedObjectEncryptedDEKSourceType: object.EncryptedDEKSourceType,
	}
}

func write(t *testing.T, to value.Write, key value.DefaultContext) []byte {
	t.Helper()
	stored, err := to.TransformToStorage(t.Context(), []byte(secret), key)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(stored, []byte("password")) {
		t.Fatalf("stored in plain text: %q", stored)
	}
	return stored
}

func read(t *testing.T, from value.Read, stored []byte, key value.DefaultContext) (stale bool) {
	t.Helper()
	got, stale, err := from.TransformFromStorage(t.Context(), stored, key)
	if err != nil || string(got) != secret {
		t.Fatalf("read %q, %v", got, err)
	}
	return stale
}

func storedObject(t *testing.T, stored []byte) *kmstypes.EncryptedObject {
	t.Helper()
	object := new(kmstypes.EncryptedObject)
	if err := proto.Unmarshal(stored, object); err != nil {
		t.Fatal(err)
	}
	if err := kmsv2.ValidateEncryptedObject(object); err != nil {
		t.Fatal(err)
	}
	return object
}

func TestAPIServerReadsWhatAnotherWrote(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now().Add(-time.Hour))
	endpoint, _ := serve(t, setup(t, fake))
	writer, reader := newAPIServer(t, endpoint), newAPIServer(t, endpoint)
	stored := write(t, writer, secretKey)
	if read(t, reader, stored, secretKey) {
		t.Error("what another API server wrote under the same key id is stale")
	}
	if _, _, err := reader.TransformFromStorage(t.Context(), stored, otherKey); err == nil {
		t.Error("a value that was moved to another key of etcd opens")
	}
}

func TestRotationMakesOldObjectsStale(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now().Add(-2 * time.Hour))
	endpoint, plugin := serve(t, setup(t, fake))
	a := newAPIServer(t, endpoint)
	old := write(t, a, secretKey)
	fake.Rotate(time.Now().Add(-time.Hour))
	waitFor(t, "another key id", func() bool { return plugin.Snapshot().KeyID != a.state.EncryptedObjectKeyID })

	a.newSeed(t)
	renewed := write(t, a, secretKey)
	fresh := newAPIServer(t, endpoint) // has no seed in its cache
	for name, reader := range map[string]*apiServer{"running": a, "restarted": fresh} {
		if !read(t, reader, old, secretKey) {
			t.Errorf("%s: the old value is not stale", name)
		}
		if read(t, reader, renewed, secretKey) {
			t.Errorf("%s: the new value is stale", name)
		}
	}
}

// A value of etcd whose parts come from two is refused by the plugin, whatever the API server would do.
func TestTamperedObjectsAreRefused(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now().Add(-2 * time.Hour))
	endpoint, plugin := serve(t, setup(t, fake))
	before := newAPIServer(t, endpoint)
	fake.Rotate(time.Now().Add(-time.Hour))
	waitFor(t, "another key id", func() bool { return plugin.Snapshot().KeyID != before.state.EncryptedObjectKeyID })
	after := newAPIServer(t, endpoint)

	tests := map[string]func(*kmstypes.EncryptedObject){
		"key id of another version": func(o *kmstypes.EncryptedObject) { o.KeyID = after.state.EncryptedObjectKeyID },
		"seed of another version": func(o *kmstypes.EncryptedObject) {
			o.EncryptedDEKSource = after.state.EncryptedObjectEncryptedDEKSource
		},
		"flipped seed":         func(o *kmstypes.EncryptedObject) { o.EncryptedDEKSource[40] ^= 1 },
		"annotation of nobody": func(o *kmstypes.EncryptedObject) { o.Annotations = map[string][]byte{"a.example": {1}} },
		"share that was not spilled": func(o *kmstypes.EncryptedObject) {
			o.Annotations = map[string][]byte{"shares.trousseau.io": {1}}
		},
	}
	stored := write(t, before, secretKey)
	for name, tamper := range tests {
		object := storedObject(t, stored)
		tamper(object)
		tampered, err := proto.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = after.TransformFromStorage(t.Context(), tampered, secretKey)
		if err == nil || !strings.Contains(err.Error(), "decrypt DEK") {
			t.Errorf("%s: %v, want a refusal of the plugin", name, err)
		}
	}
}

// eightByteVersion makes the version ids of a fake 8 bytes long.
type eightByteVersion struct{ *keyservicetest.Fake }

func (k eightByteVersion) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	newest, previous, err = k.Fake.Versions(ctx)
	newest.ID, previous.ID = newest.ID[:min(8, len(newest.ID))], previous.ID[:min(8, len(previous.ID))]
	return newest, previous, err
}

func (k eightByteVersion) Wrap(ctx context.Context, _ keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	wrapped, err := k.Fake.Wrap(ctx, "", secret, aad)
	wrapped.Version = wrapped.Version[:min(8, len(wrapped.Version))]
	return wrapped, err
}

func (k eightByteVersion) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	wrapped.Version = ""
	return k.Fake.Unwrap(ctx, wrapped, aad)
}

// What the plugin adds to every object in etcd: header 20, share 4 + 8 + 60, seal 48; key id 30; no annotation.
func TestBytesInEveryObject(t *testing.T) {
	endpoint, _ := serve(t, setup(t, eightByteVersion{keyservicetest.NewFake(time.Now().Add(-time.Hour))}))
	object := storedObject(t, write(t, newAPIServer(t, endpoint), secretKey))
	size := len(object.EncryptedDEKSource) + len(object.KeyID)
	for name, annotation := range object.Annotations {
		size += len(name) + len(annotation)
	}
	if size != 170 {
		t.Errorf("%d bytes beside the data, of them %d of ciphertext and %d of key id; want 170, and never over 180",
			size, len(object.EncryptedDEKSource), len(object.KeyID))
	}
}

// longCiphertext is a key service whose ciphertexts are too long for KMS v2.
type longCiphertext struct{ *keyservicetest.Fake }

var padding = make([]byte, 2048)

func (k longCiphertext) Wrap(ctx context.Context, version keyservice.VersionID, secret, aad []byte) (keyservice.Wrapped, error) {
	wrapped, err := k.Fake.Wrap(ctx, version, secret, aad)
	wrapped.Bytes = append(wrapped.Bytes, padding...)
	return wrapped, err
}

func (k longCiphertext) Unwrap(ctx context.Context, wrapped keyservice.Wrapped, aad []byte) ([]byte, error) {
	wrapped.Bytes = bytes.TrimSuffix(wrapped.Bytes, padding)
	return k.Fake.Unwrap(ctx, wrapped, aad)
}

func TestSpilledShareIsStoredAsAnAnnotation(t *testing.T) {
	endpoint, _ := serve(t, setup(t, longCiphertext{keyservicetest.NewFake(time.Now().Add(-time.Hour))}))
	stored := write(t, newAPIServer(t, endpoint), secretKey)
	if object := storedObject(t, stored); len(object.Annotations["shares.trousseau.io"]) < len(padding) {
		t.Errorf("annotations %v", object.Annotations)
	}
	read(t, newAPIServer(t, endpoint), stored, secretKey)
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

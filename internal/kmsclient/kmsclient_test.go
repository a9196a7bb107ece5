package kmsclient_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/kmsclient"
)

// plugin is a KMS v2 plugin that "wraps" by reversing, and misbehaves as a test changes its answers.
type plugin struct {
	kmsapi.UnimplementedKeyManagementServiceServer
	status  func(*kmsapi.StatusResponse) error
	encrypt func(*kmsapi.EncryptResponse) error
	decrypt func(*kmsapi.DecryptResponse) error
}

func (p *plugin) Status(context.Context, *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	answer := &kmsapi.StatusResponse{Version: "v2", Healthz: "ok", KeyId: "key-1"}
	return answer, change(p.status, answer)
}

func (p *plugin) Encrypt(_ context.Context, r *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	answer := &kmsapi.EncryptResponse{Ciphertext: reverse(r.Plaintext), KeyId: "key-1"}
	return answer, change(p.encrypt, answer)
}

func (p *plugin) Decrypt(_ context.Context, r *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	answer := &kmsapi.DecryptResponse{Plaintext: reverse(r.Ciphertext)}
	return answer, change(p.decrypt, answer)
}

func change[T any](f func(*T) error, answer *T) error {
	if f == nil {
		return nil
	}
	return f(answer)
}

func reverse(b []byte) []byte {
	r := make([]byte, len(b))
	for i := range b {
		r[len(b)-1-i] = b[i]
	}
	return r
}

// serve runs the plugin on a socket and returns a client of it.
func serve(t *testing.T, p *plugin) *kmsclient.Client {
	t.Helper()
	path := filepath.Join(shortDir(t), "kms.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(server, p)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := kmsclient.Dial(kmsclient.Options{Socket: path, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// shortDir returns a directory whose path leaves room for the name of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestProve(t *testing.T) {
	client := serve(t, &plugin{encrypt: func(r *kmsapi.EncryptResponse) error {
		r.Annotations = map[string][]byte{"a.example": []byte("12345")}
		return nil
	}})
	proof, err := kmsclient.Prove(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if proof.Ciphertext != 32 || proof.Stored != 32+len("key-1")+len("a.example")+5 || proof.Status.KeyID != "key-1" {
		t.Errorf("got %+v", proof)
	}
}

// TestProveRefuses breaks one promise of a plugin at a time.
func TestProveRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		plugin plugin
		text   string
	}{
		"unhealthy": {plugin{status: func(r *kmsapi.StatusResponse) error { r.Healthz = "tired"; return nil }}, `"tired"`},
		"version":   {plugin{status: func(r *kmsapi.StatusResponse) error { r.Version = "v3"; return nil }}, `"v3"`},
		"no key id": {plugin{status: func(r *kmsapi.StatusResponse) error { r.KeyId = ""; return nil }}, "keyID is empty"},
		"key id too long": {plugin{status: func(r *kmsapi.StatusResponse) error {
			r.KeyId = strings.Repeat("k", 1025)
			return nil
		}}, "1025"},
		"status fails": {plugin{status: func(*kmsapi.StatusResponse) error {
			return status.Error(codes.PermissionDenied, "token expired")
		}}, "PermissionDenied: token expired"},
		"other key id":     {plugin{encrypt: func(r *kmsapi.EncryptResponse) error { r.KeyId = "key-2"; return nil }}, "another key id"},
		"empty ciphertext": {plugin{encrypt: func(r *kmsapi.EncryptResponse) error { r.Ciphertext = nil; return nil }}, "encrypted"},
		"ciphertext too long": {plugin{encrypt: func(r *kmsapi.EncryptResponse) error {
			r.Ciphertext = make([]byte, 1025)
			return nil
		}}, "1025"},
		"annotation without a dot": {plugin{encrypt: func(r *kmsapi.EncryptResponse) error {
			r.Annotations = map[string][]byte{"plain": nil}
			return nil
		}}, "separated by dots"},
		"other plaintext": {plugin{decrypt: func(r *kmsapi.DecryptResponse) error { r.Plaintext[0] ^= 1; return nil }}, "reading a value"},
		"short plaintext": {plugin{decrypt: func(r *kmsapi.DecryptResponse) error { r.Plaintext = r.Plaintext[1:]; return nil }}, "reading a value"},
		"decrypt fails": {plugin{decrypt: func(*kmsapi.DecryptResponse) error {
			return status.Error(codes.NotFound, "no such key")
		}}, "NotFound: no such key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kmsclient.Prove(t.Context(), serve(t, &test.plugin))
			e, ok := errors.AsType[*kmsclient.Error](err)
			if !ok || e.Hint == "" || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %T %[1]v, want %q", err, test.text)
			}
		})
	}
}

// TestProveTriesAgain changes the key between Status and Encrypt, once: no reason to complain.
func TestProveTriesAgain(t *testing.T) {
	calls := 0
	client := serve(t, &plugin{
		status: func(r *kmsapi.StatusResponse) error {
			if calls++; calls == 1 {
				r.KeyId = "key-0"
			}
			return nil
		},
	})
	if _, err := kmsclient.Prove(t.Context(), client); err != nil || calls != 2 {
		t.Errorf("after %d calls: %v", calls, err)
	}
}

func TestRoundTrip(t *testing.T) {
	client := serve(t, &plugin{})
	sealed, err := client.Encrypt(t.Context(), "uid", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.Decrypt(t.Context(), "uid", sealed)
	if err != nil || !bytes.Equal(got, []byte("secret")) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestUnimplementedVersion(t *testing.T) {
	path := filepath.Join(shortDir(t), "kms.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := kmsclient.Dial(kmsclient.Options{Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Status(t.Context())
	if e, ok := errors.AsType[*kmsclient.Error](err); !ok || !strings.Contains(e.Hint, "does not speak this version") {
		t.Errorf("got %v", err)
	}
}

// TestDialFailsAtOnce wants a reason where the API server's client would wait for its deadline.
func TestDialFailsAtOnce(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, "dead.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	for path, text := range map[string]string{
		filepath.Join(dir, "none"): "no such file", file: "is no socket", dead: "nobody listens",
	} {
		_, err := kmsclient.Dial(kmsclient.Options{Socket: path})
		if e, ok := errors.AsType[*kmsclient.Error](err); !ok || e.Hint == "" || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestSilentPlugin is a listener that takes connections and never answers.
func TestSilentPlugin(t *testing.T) {
	path := filepath.Join(shortDir(t), "kms.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := kmsclient.Dial(kmsclient.Options{Socket: path, Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("got %v", err)
	}
}

func TestRelativePath(t *testing.T) {
	dir := shortDir(t)
	listener, err := net.Listen("unix", filepath.Join(dir, "kms.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(server, &plugin{})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	t.Chdir(dir)
	client, err := kmsclient.Dial(kmsclient.Options{Socket: "kms.sock", Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if got, err := client.Status(t.Context()); err != nil || got.KeyID != "key-1" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Package upstreamtest is a KMS v2 plugin for tests: the reference server of k8s.io/kms on a Unix socket, with AES-256-GCM,
// versions, states, and faults to order. Most of its errors say nothing but Unknown, as those of most plugins do. It is
// imported by tests alone.
package upstreamtest

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsv2 "k8s.io/kms/apis/v2"
	"k8s.io/kms/pkg/service"
)

// Annotation is the name of the annotation that the plugin returns and wants back.
const Annotation = "version.upstream.test"

// Plugin is a running plugin. Its methods may be called concurrently; those that start and stop it may not.
type Plugin struct {
	Socket string

	t      testing.TB
	server *grpc.Server
	served chan error

	mu        sync.Mutex
	versions  []version // newest last
	behaviour Behaviour
	changed   chan struct{} // closed when the behaviour changes
}

type version struct {
	keyID    string
	key      []byte
	disabled bool
}

// Behaviour is what is wrong with a Plugin. The zero Behaviour is nothing.
type Behaviour struct {
	Err      error                          // what every call returns
	Echo     bool                           // every call returns an error that holds what it was sent
	Stall    bool                           // no call returns before the behaviour changes
	Status   func(*service.StatusResponse)  // changes the answers of Status
	Answer   func(*service.EncryptResponse) // changes the answers of Encrypt
	Secret   func([]byte) []byte            // changes the answers of Decrypt
	Careless bool                           // Decrypt answers something to what does not open
}

// Start starts a plugin with one version, until the test ends.
func Start(t testing.TB) *Plugin {
	t.Helper()
	dir, err := os.MkdirTemp("", "upstream") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	p := &Plugin{Socket: filepath.Join(dir, "kms.sock"), t: t, changed: make(chan struct{})}
	t.Cleanup(func() {
		p.Stop()
		os.RemoveAll(dir)
	})
	p.Rotate()
	p.Start()
	return p
}

// Start starts the plugin again after Stop, with the versions that it had.
func (p *Plugin) Start() {
	p.t.Helper()
	listener, err := net.Listen("unix", p.Socket)
	if err != nil {
		p.t.Fatal(err)
	}
	p.server, p.served = grpc.NewServer(), make(chan error, 1)
	kmsv2.RegisterKeyManagementServiceServer(p.server, service.NewGRPCService(p.Socket, 0, handler{p}))
	go func() { p.served <- p.server.Serve(listener) }()
}

// Stop ends the plugin, which removes its socket. Stopping one that does not run does nothing.
func (p *Plugin) Stop() {
	p.t.Helper()
	if p.server == nil {
		return
	}
	p.server.Stop()
	if err := <-p.served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		p.t.Errorf("serving: %v", err)
	}
	p.server = nil
}

// Rotate makes a new version and returns its key id.
func (p *Plugin) Rotate() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := make([]byte, 32)
	rand.Read(key)
	id := sha256.Sum256(key)
	v := version{keyID: "test key, version " + hex.EncodeToString(id[:8]), key: key}
	p.versions = append(p.versions, v)
	return v.keyID
}

// Recreate deletes the key with all its versions and makes another.
func (p *Plugin) Recreate() {
	p.mu.Lock()
	p.versions = nil
	p.mu.Unlock()
	p.Rotate()
}

// Disable switches every version off, until Enable.
func (p *Plugin) Disable() (enable func()) {
	p.disable(true)
	return func() { p.disable(false) }
}

func (p *Plugin) disable(disabled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.versions {
		p.versions[i].disabled = disabled
	}
}

// Behave makes the plugin misbehave from now on, and returns what ends that.
func (p *Plugin) Behave(b Behaviour) (repair func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behaviour = b
	close(p.changed)
	p.changed = make(chan struct{})
	return func() { p.Behave(Behaviour{}) }
}

// enter lets the behaviour happen to a call that was sent the given bytes.
func (p *Plugin) enter(ctx context.Context, sent []byte) (Behaviour, error) {
	for {
		p.mu.Lock()
		b, changed := p.behaviour, p.changed
		p.mu.Unlock()
		switch {
		case b.Echo:
			return b, fmt.Errorf("no good: %s, %x", sent, sent)
		case !b.Stall:
			return b, b.Err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return b, ctx.Err()
		}
	}
}

// find returns the version with the key id, "" meaning the newest.
func (p *Plugin) find(keyID string) (version, cipher.AEAD, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.versions) - 1; i >= 0; i-- {
		v := p.versions[i]
		if keyID != "" && v.keyID != keyID {
			continue
		}
		if v.disabled {
			return v, nil, status.Errorf(codes.FailedPrecondition, "%s is disabled", v.keyID)
		}
		block, err := aes.NewCipher(v.key)
		if err != nil {
			return v, nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		return v, aead, err
	}
	return version{}, nil, status.Errorf(codes.NotFound, "no key %q", keyID)
}

// handler is the service.Service of a Plugin.
type handler struct{ *Plugin }

func (h handler) Status(ctx context.Context) (*service.StatusResponse, error) {
	b, err := h.enter(ctx, nil)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	answer := &service.StatusResponse{Version: "v2", Healthz: "ok", KeyID: h.versions[len(h.versions)-1].keyID}
	if b.Status != nil {
		b.Status(answer)
	}
	return answer, nil
}

func (h handler) Encrypt(ctx context.Context, uid string, data []byte) (*service.EncryptResponse, error) {
	b, err := h.enter(ctx, data)
	if err != nil {
		return nil, err
	}
	if uid == "" {
		return nil, errors.New("there is no uid")
	}
	v, aead, err := h.find("")
	if err != nil {
		return nil, err
	}
	answer := &service.EncryptResponse{
		KeyID: v.keyID, Ciphertext: aead.Seal(nil, nil, data, []byte(v.keyID)),
		Annotations: map[string][]byte{Annotation: []byte("1")},
	}
	if b.Answer != nil {
		b.Answer(answer)
	}
	return answer, nil
}

func (h handler) Decrypt(ctx context.Context, uid string, req *service.DecryptRequest) ([]byte, error) {
	b, err := h.enter(ctx, req.Ciphertext)
	if err != nil {
		return nil, err
	}
	if uid == "" || len(req.Annotations) != 1 || !bytes.Equal(req.Annotations[Annotation], []byte("1")) {
		return nil, errors.New("uid or annotation are not what they should be")
	}
	v, aead, err := h.find(req.KeyID)
	if err != nil {
		return nil, err
	}
	secret, err := aead.Open(nil, nil, req.Ciphertext, []byte(v.keyID))
	switch {
	case err != nil && b.Careless:
		return make([]byte, 32), nil
	case err == nil && b.Secret != nil:
		return b.Secret(secret), nil
	}
	return secret, err
}

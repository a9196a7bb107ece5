// Package kmiptest provides KMIP servers to tests: a fake in memory, which speaks the real protocol over mutual TLS with
// real cryptography, and PyKMIP as a process. No program imports it.
package kmiptest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/kmipserver"
	"github.com/ovh/kmip-go/ttlv"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

// Fake is a KMIP server in memory. It keeps objects with their states, names and links, and checks what a real server
// checks: the client certificate, the state and the usage mask of a key, the parameters of an operation.
type Fake struct {
	Address    string            // host:port, of Proxy
	Proxy      *testserver.Proxy // between the clients and the server; it stalls and cuts to order
	CA         *testserver.CA    // issuer of the server's certificate and of those of its clients
	ClientCert string            // file of a client certificate
	ClientKey  string            // file of its private key

	executor *kmipserver.BatchExecutor
	clients  *x509.CertPool // issuers of clients

	mu      sync.Mutex
	objects map[string]*Object // by unique identifier
	reason  kmip.ResultReason  // of the failure of everything but DiscoverVersions, or 0
	message string
	garble  bool
	client  string // common name of the client that asked last
}

// Object is one managed object. Tests change it with Fake.Edit.
type Object struct {
	Name         string
	State        kmip.State
	Algorithm    kmip.CryptographicAlgorithm
	Usage        kmip.CryptographicUsageMask
	InitialDate  time.Time
	Activation   time.Time // no attribute if zero, like the next
	Deactivation time.Time
	Sensitive    bool
	Extractable  bool
	Hidden       []kmip.AttributeName // attributes that the server does not tell

	material             []byte
	replaces, replacedBy string
}

// Start starts a server on 127.0.0.1 for as long as the test lasts.
func Start(t testing.TB) *Fake {
	t.Helper()
	f := &Fake{CA: testserver.NewCA(t), objects: make(map[string]*Object), executor: kmipserver.NewBatchExecutor()}
	f.ClientCert, f.ClientKey = f.CA.Issue(t, "client")
	f.clients = f.CA.Pool()
	f.route()
	pair, err := tls.LoadX509KeyPair(f.CA.Issue(t, "kmip"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: f.clients, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	f.Proxy = testserver.StartProxy(t, listener.Addr().String())
	f.Address = f.Proxy.Address
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go f.serve(conn.(*tls.Conn))
		}
	}()
	return f
}

// serve answers one client after the other request. The library's own server can panic when a client goes away.
func (f *Fake) serve(conn *tls.Conn) {
	defer conn.Close()
	if conn.Handshake() != nil {
		return
	}
	client := conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	stream := ttlv.NewStream(conn, 1<<20)
	for {
		var request kmip.RequestMessage
		if stream.Recv(&request) != nil {
			return
		}
		f.mu.Lock()
		f.client = client
		garble := f.garble
		f.mu.Unlock()
		answer := ttlv.MarshalTTLV(f.executor.HandleRequest(context.Background(), &request))
		if garble {
			for i := 8; i < len(answer); i++ { // all but the length
				answer[i] ^= 0x11
			}
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// CreateKey makes an active AES-256 key that may encrypt and decrypt, and returns its unique identifier.
func (f *Fake) CreateKey(name string) string {
	return f.create(name, kmip.CryptographicAlgorithmAES, kmip.CryptographicUsageEncrypt|kmip.CryptographicUsageDecrypt)
}

// CreateMAC makes an active HMAC-SHA256 key that may make MACs, and returns its unique identifier.
func (f *Fake) CreateMAC(name string) string {
	return f.create(name, kmip.CryptographicAlgorithmHMACSHA256, kmip.CryptographicUsageMACGenerate)
}

func (f *Fake) create(name string, algorithm kmip.CryptographicAlgorithm, usage kmip.CryptographicUsageMask) string {
	now := time.Now().Truncate(time.Second)
	o := &Object{
		Name: name, State: kmip.StateActive, Algorithm: algorithm, Usage: usage, InitialDate: now, Activation: now,
		Sensitive: true, material: make([]byte, 32),
	}
	rand.Read(o.material)
	id := rand.Text()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[id] = o
	return id
}

// Rekey replaces a key as the operation ReKey does: the new one takes the name over, and links lead from one to the other.
func (f *Fake) Rekey(id string) (replacement string) {
	f.mu.Lock()
	old := f.objects[id]
	name := old.Name
	f.mu.Unlock()
	replacement = f.create(name, old.Algorithm, old.Usage)
	f.Edit(replacement, func(o *Object) { o.replaces = id })
	f.Edit(id, func(o *Object) { o.Name, o.replacedBy = "", replacement })
	return replacement
}

// Edit changes an object.
func (f *Fake) Edit(id string, change func(*Object)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.objects[id])
}

// Destroy forgets an object.
func (f *Fake) Destroy(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, id)
}

// Fail makes every operation fail with a reason and a message, and returns what repairs it.
func (f *Fake) Fail(reason kmip.ResultReason, message string) (repair func()) {
	return f.set(func() { f.reason, f.message = reason, message })
}

// Garble damages every answer, and returns what repairs it.
func (f *Fake) Garble() (repair func()) { return f.set(func() { f.garble = true }) }

func (f *Fake) set(change func()) (repair func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.reason, f.message, f.garble = 0, "", false
	}
}

// Speak limits the versions of the protocol that clients are offered from now on. It is called before the first request.
func (f *Fake) Speak(versions ...kmip.ProtocolVersion) {
	f.executor.SetSupportedProtocolVersions(slices.Clone(versions)...)
}

// Client returns the common name of the client that asked last.
func (f *Fake) Client() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.client
}

// Tamper calls change with the payload of every request before it is looked at, and with that of every answer before it is
// sent. It is called before the first request.
func (f *Fake) Tamper(change func(kmip.OperationPayload)) {
	f.executor.BatchItemUse(func(
		next kmipserver.BatchItemNext, ctx context.Context, item *kmip.RequestBatchItem,
	) (*kmip.ResponseBatchItem, error) {
		change(item.RequestPayload)
		answer, err := next(ctx, item)
		if err == nil {
			change(answer.ResponsePayload)
		}
		return answer, err
	})
}

// Accept lets a client in whose certificate signs itself. It is called before the first request.
func (f *Fake) Accept(client *x509.Certificate) { f.clients.AddCert(client) }

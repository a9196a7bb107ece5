package vault

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
)

const (
	connectTimeout   = time.Second             // until the next address is tried
	handshakeTimeout = 1500 * time.Millisecond // both together leave half of an API server's three seconds
	idleTimeout      = 5 * time.Minute         // longer than the pause between two probes
	maxIdle          = 32                      // connections per server
	maxAnswer        = 1 << 20                 // bytes; real answers have a few hundred
)

// transport makes connections with what the TLS files held when reload was last called. It bounds the size of every
// answer: the client library reads an error's body whole.
type transport struct {
	caFile, serverName string
	certFile           string
	keyFile            credential.File
	current            atomic.Pointer[http.Transport]
	seen               atomic.Uint64 // fingerprint of the files at the last reload
}

func newTransport(config Config) (*transport, error) {
	t := &transport{
		caFile: config.CAFile, serverName: config.TLSServerName,
		certFile: config.ClientCertFile, keyFile: config.ClientKeyFile,
	}
	if config.Auth.Cert != nil {
		t.certFile, t.keyFile = config.Auth.Cert.CertFile, config.Auth.Cert.KeyFile
	}
	return t, t.reload()
}

// reload makes a new set of connections if a file changed, and leaves the old ones to those who use them: a log in with a
// certificate must not happen over a connection that was made with the one before.
func (t *transport) reload() error {
	seen := t.fingerprint()
	if t.current.Load() != nil && seen == t.seen.Load() {
		return nil
	}
	t.seen.Store(seen) // also if they are no good: that is said once, and the connections stay as they are
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.serverName}
	if t.caFile != "" {
		text, err := os.ReadFile(t.caFile)
		if err != nil {
			return fmt.Errorf("reading caFile: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("reading caFile: %q holds no PEM certificate", t.caFile)
		}
	}
	if t.certFile != "" {
		// Not Certificates: a server's list of acceptable CAs would filter them, and Vault compares by itself.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.clientCert() }
	}
	old := t.current.Swap(&http.Transport{
		Proxy:                 nil, // a key service is not reached through whatever the environment names
		DialContext:           dial,
		DialTLSContext:        dialTLS(config),
		DisableCompression:    true, // a decompressor has buffers of its own
		MaxIdleConnsPerHost:   maxIdle,
		IdleConnTimeout:       idleTimeout,
		ExpectContinueTimeout: time.Second,
	})
	if old != nil {
		old.CloseIdleConnections()
	}
	return nil
}

// certError is a client certificate that cannot be used.
type certError struct{ error }

func (e *certError) Unwrap() error { return e.error }

// clientCert reads the certificate for one connection.
func (t *transport) clientCert() (*tls.Certificate, error) {
	cert, err := os.ReadFile(t.certFile)
	if err != nil {
		return nil, &certError{fmt.Errorf("reading the client certificate: %w", err)}
	}
	key, err := t.keyFile.Read()
	if err != nil {
		return nil, &certError{fmt.Errorf("reading the client certificate's key: %w", err)}
	}
	defer key.Wipe()
	pair, err := tls.X509KeyPair(cert, key.Bytes())
	if err != nil {
		return nil, &certError{errors.New("reading the client certificate: it and its key are no pair of PEM files")}
	}
	return &pair, nil
}

func (t *transport) stale() bool { return t.fingerprint() != t.seen.Load() }

// fingerprint changes with the content of the TLS files. One that cannot be read counts as empty: the next connection
// says why.
func (t *transport) fingerprint() uint64 {
	var all []byte
	for _, path := range []string{t.caFile, t.certFile} {
		if text, err := os.ReadFile(path); err == nil {
			all = append(append(all, text...), 0)
		}
	}
	sum := credential.NewSecret(all).Fingerprint()
	if t.keyFile != "" {
		if key, err := t.keyFile.Fingerprint(); err == nil {
			sum ^= key
		}
	}
	return uint64(sum)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.current.Load().RoundTrip(r)
	if response != nil {
		response.Body = &limitedBody{ReadCloser: response.Body, left: maxAnswer}
	}
	return response, err
}

// CloseIdleConnections is found by http.Client.
func (t *transport) CloseIdleConnections() { t.current.Load().CloseIdleConnections() }

// limitedBody fails after left bytes rather than end there: half an answer is none.
type limitedBody struct {
	io.ReadCloser
	left int64
}

func (l *limitedBody) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	n, err := l.ReadCloser.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

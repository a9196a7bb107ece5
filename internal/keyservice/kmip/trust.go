package kmip

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// trust makes the TLS settings from the files of the configuration.
type trust struct {
	caFile, certFile, serverName string
	keyFile                      credential.File
	log                          *slog.Logger

	mu   sync.Mutex
	seen credential.Fingerprint // of the content that settings were made from
	made *settings              // nil before the first time
	bad  bool                   // the files could not be used when they were last read, and the log says so
}

// settings are what connections are made with. Equal pointers mean equal files.
type settings struct {
	tls    *tls.Config
	client *x509.Certificate
}

// filesError is a file of TLS that cannot be used.
type filesError struct{ error }

func (e *filesError) Unwrap() error { return e.error }

// current returns the settings for what the files hold now. Files that cannot be used leave the former settings in place:
// of a certificate and its key, one is always replaced before the other.
func (t *trust) current() (*settings, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.load()
	if t.made == nil {
		return nil, &filesError{err}
	}
	if err != nil && !t.bad {
		t.log.Warn("the files of TLS cannot be used, the former ones stay in use", "error", err)
	}
	t.bad = err != nil
	return t.made, nil
}

// forget lets go of the private key.
func (t *trust) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made = nil
}

// load makes new settings if a file changed.
func (t *trust) load() error {
	var ca []byte
	if t.caFile != "" {
		var err error
		if ca, err = os.ReadFile(t.caFile); err != nil {
			return fmt.Errorf("reading caFile: %w", err)
		}
	}
	cert, err := os.ReadFile(t.certFile)
	if err != nil {
		return fmt.Errorf("reading clientCertFile: %w", err)
	}
	key, err := t.keyFile.Read()
	if err != nil {
		return fmt.Errorf("reading clientKeyFile: %w", err)
	}
	defer key.Wipe()
	seen := credential.NewSecret(fmt.Appendf(nil, "%d %s %s", len(ca), ca, cert)).Fingerprint() ^ key.Fingerprint()
	if t.made != nil && seen == t.seen {
		return nil
	}
	made, err := t.settings(ca, cert, key.Bytes())
	if err == nil {
		t.made, t.seen = made, seen
	}
	return err
}

func (t *trust) settings(ca, cert, key []byte) (*settings, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil { // whose words may quote the files
		return nil, errors.New("reading clientCertFile and clientKeyFile: they are no pair of PEM files")
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: t.serverName,
		// Not Certificates: a server's list of acceptable authorities would filter them, and its reason for a refusal be lost.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
	}
	if t.caFile != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("reading caFile: %q holds no PEM certificate", t.caFile)
		}
	}
	return &settings{tls: config, client: pair.Leaf}, nil
}

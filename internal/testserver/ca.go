package testserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA issues certificates for one test.
type CA struct {
	File string // PEM

	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// NewCA makes a CA with a new key.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca := &CA{dir: t.TempDir(), key: newKey(t)}
	template := template("test CA")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	ca.cert = sign(t, template, template, ca.key.Public(), ca.key)
	ca.File = writePEM(t, ca.dir, "ca.pem", "CERTIFICATE", ca.cert.Raw)
	return ca
}

// Issue returns the files of a new certificate and its private key, good for a server on 127.0.0.1 and for a client.
// name is the common name and names the files.
func (ca *CA) Issue(t testing.TB, name string) (certFile, keyFile string) {
	t.Helper()
	return ca.issue(t, template(name))
}

// IssueValid is Issue for a certificate that is valid in another time than around the present.
func (ca *CA) IssueValid(t testing.TB, name string, from, until time.Time) (certFile, keyFile string) {
	t.Helper()
	template := template(name)
	template.NotBefore, template.NotAfter = from, until
	return ca.issue(t, template)
}

func (ca *CA) issue(t testing.TB, template *x509.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, name := newKey(t), template.Subject.CommonName
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{"localhost", name}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	cert := sign(t, template, ca.cert, key.Public(), ca.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("encoding a private key: %v", err)
	}
	return writePEM(t, ca.dir, name+".pem", "CERTIFICATE", cert.Raw),
		writePEM(t, ca.dir, name+"-key.pem", "PRIVATE KEY", der)
}

// Pool returns a pool that trusts this CA alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// PEM returns the CA's certificate as text.
func (ca *CA) PEM(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatalf("reading the CA: %v", err)
	}
	return string(text)
}

func template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
	}
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("generating a key: %v", err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatalf("signing a certificate: %v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("reading a certificate back: %v", err)
	}
	return cert
}

func writePEM(t testing.TB, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatalf("writing a PEM file: %v", err)
	}
	return path
}

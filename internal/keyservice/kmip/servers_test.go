package kmip_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/ttlv"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip/kmiptest"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

func fixture(t *testing.T) (*kmiptest.Fake, kmip.Config) {
	t.Helper()
	f := kmiptest.Start(t)
	f.CreateKey("k8s")
	return f, config(f, "k8s", "")
}

func TestFailover(t *testing.T) {
	t.Parallel()
	f, c := fixture(t)
	dead := testserver.FreeAddress(t)
	c.Addresses = []string{dead, f.Address}
	var lines keyservicetest.Log
	key := open(t, c, lines.Logger())
	keyservicetest.RoundTrip(t, key)
	keyservicetest.RoundTrip(t, key)
	if n := strings.Count(lines.String(), "using another server"); n != 1 {
		t.Errorf("told %d times about the failover, want once:\n%s", n, lines.String())
	}
	c.Addresses = []string{dead, testserver.FreeAddress(t)}
	_, err := open(t, c, nil).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, dead)
	if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), c.Addresses[1]) {
		t.Errorf("error %v", err)
	}
}

// TestFailoverFromAServerThatStalls leaves time for the next address within one deadline.
func TestFailoverFromAServerThatStalls(t *testing.T) {
	t.Parallel()
	f, c := fixture(t)
	stalling := testserver.StartProxy(t, f.Address)
	c.Addresses = []string{stalling.Address, f.Address}
	key := open(t, c, nil)
	w := keyservicetest.Wrap(t, key, "")
	defer stalling.Set(testserver.Stall)()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := key.Unwrap(ctx, w, aad); err != nil {
		t.Error(err)
	}
	start := time.Now()
	keyservicetest.RoundTrip(t, key)
	if took := time.Since(start); took > 400*time.Millisecond {
		t.Errorf("the server that stalls was asked again: %v", took)
	}
}

// TestIdleConnectionsThatTheServerClosed are replaced within the call that finds out.
func TestIdleConnectionsThatTheServerClosed(t *testing.T) {
	t.Parallel()
	f, c := fixture(t)
	key := open(t, c, nil)
	for range 3 {
		w := keyservicetest.Wrap(t, key, "")
		f.Proxy.Set(testserver.Cut)()
		keyservicetest.Unwrap(t, key, w)
	}
}

// TestReplacedFiles: what the files hold now is used by the next call.
func TestReplacedFiles(t *testing.T) {
	t.Parallel()
	f, c := fixture(t)
	dir := t.TempDir()
	c.CAFile, c.ClientCertFile = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem")
	c.ClientKeyFile = credential.File(filepath.Join(dir, "key.pem"))
	var lines keyservicetest.Log
	key := open(t, c, lines.Logger())
	_, err := key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "ca.pem")

	stranger := testserver.NewCA(t)
	strangerCert, strangerKey := stranger.Issue(t, "stranger")
	keyservicetest.ReplaceFile(t, c.CAFile, keyservicetest.ReadFile(t, stranger.File))
	keyservicetest.ReplaceFile(t, c.ClientCertFile, keyservicetest.ReadFile(t, strangerCert))
	_, err = key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "key.pem")
	keyservicetest.ReplaceFile(t, c.ClientKeyFile, keyservicetest.ReadFile(t, f.ClientKey))
	_, err = key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "no pair")
	keyservicetest.ReplaceFile(t, c.ClientKeyFile, keyservicetest.ReadFile(t, strangerKey))
	_, err = key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "unknown authority")
	if !strings.Contains(keyservice.HintOf(err), "caFile") {
		t.Errorf("hint %q", keyservice.HintOf(err))
	}

	keyservicetest.ReplaceFile(t, c.CAFile, keyservicetest.ReadFile(t, f.CA.File)) // now the server refuses the client
	_, err = key.Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "tls:")
	keyservicetest.ReplaceFile(t, c.ClientKeyFile, keyservicetest.ReadFile(t, f.ClientKey))
	keyservicetest.ReplaceFile(t, c.ClientCertFile, keyservicetest.ReadFile(t, f.ClientCert))
	keyservicetest.RoundTrip(t, key)
	if got := f.Client(); got != "client" {
		t.Errorf("the client is %q", got)
	}

	second, secondKey := f.CA.Issue(t, "second")
	keyservicetest.ReplaceFile(t, c.ClientCertFile, keyservicetest.ReadFile(t, second)) // half of it
	keyservicetest.RoundTrip(t, key)
	keyservicetest.RoundTrip(t, key)
	if got := f.Client(); got != "client" {
		t.Errorf("with half a certificate, the client is %q", got)
	}
	if n := strings.Count(lines.String(), "no pair"); n != 1 {
		t.Errorf("told %d times, want once:\n%s", n, lines.String())
	}
	keyservicetest.ReplaceFile(t, c.ClientKeyFile, keyservicetest.ReadFile(t, secondKey))
	keyservicetest.RoundTrip(t, key)
	if got := f.Client(); got != "second" {
		t.Errorf("after the certificate was replaced, the client is %q", got)
	}
	if err := os.Chmod(string(c.ClientKeyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, c, nil).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Denied, "chmod 0600")
}

func TestServerName(t *testing.T) {
	t.Parallel()
	_, c := fixture(t)
	c.TLSServerName = "another.example.com"
	_, err := open(t, c, nil).Wrap(t.Context(), "", secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Unavailable, "another.example.com")
	c.TLSServerName = "kmip"
	keyservicetest.RoundTrip(t, open(t, c, nil))
}

// TestFirstAnswers has a server that is no KMIP server, a hostile one, and one that does not know the client. None of it
// may end the process.
func TestFirstAnswers(t *testing.T) {
	t.Parallel()
	value := func(tag uint32, kind byte, data ...byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, tag<<8|uint32(kind))
		return append(binary.BigEndian.AppendUint32(b, uint32(len(data))), data...)
	}
	refusal := ttlv.MarshalTTLV(&kmipgo.ResponseMessage{
		Header: kmipgo.ResponseHeader{ProtocolVersion: kmipgo.V1_0, BatchCount: 1},
		BatchItem: []kmipgo.ResponseBatchItem{{
			ResultStatus: kmipgo.ResultStatusOperationFailed, ResultReason: kmipgo.ResultReasonAuthenticationNotSuccessful,
		}},
	})
	for name, c := range map[string]struct {
		answer []byte
		kind   keyservice.Kind
		text   string
	}{
		"HTTP":      {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), keyservice.Corrupt, "tag 485454"},
		"huge":      {[]byte{0x42, 0x00, 0x7B, 1, 0xFF, 0xFF, 0xFF, 0xF8}, keyservice.Corrupt, "4294967288 bytes"},
		"empty":     {value(0x42007B, 1), keyservice.Corrupt, "no message of KMIP"},
		"no header": {value(0x42007B, 1, value(0x42000D, 2, 0, 0, 0, 1, 0, 0, 0, 0)...), keyservice.Corrupt, "no message of KMIP"},
		// A number of no bytes makes the library panic.
		"number of no bytes": {value(0x42007B, 1, value(0x42007A, 1, value(0x420069, 1, value(0x42006A, 2)...)...)...),
			keyservice.Corrupt, "damaged"},
		"stranger": {refusal, keyservice.Denied, "authentication not successful"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := testserver.NewCA(t)
			pair, err := tls.LoadX509KeyPair(ca.Issue(t, "other"))
			if err != nil {
				t.Fatal(err)
			}
			listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					io.ReadFull(conn, make([]byte, 16))
					conn.Write(c.answer)
				}
			}()
			cert, keyFile := ca.Issue(t, "client")
			key := open(t, kmip.Config{
				Addresses: []string{listener.Addr().String()}, CAFile: ca.File, ClientCertFile: cert,
				ClientKeyFile: credential.File(keyFile), Key: kmip.Object{Name: "k8s"},
			}, nil)
			_, err = key.Wrap(t.Context(), "", secret, aad)
			keyservicetest.WantKind(t, err, c.kind, c.text)
		})
	}
}

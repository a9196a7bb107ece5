package testserver

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// Front is an HTTPS server before a real HTTP server. It forwards everything and breaks to order.
type Front struct {
	Faults
	Port string // of 127.0.0.1, where it listens
	CA   *CA    // issuer of its certificates

	name   string
	server *httptest.Server
	shown  atomic.Pointer[tls.Certificate]
}

// StartFront starts a front before the server at a URL, for as long as the test lasts. Its certificate is made out to name,
// localhost and 127.0.0.1. While the server behind it is down, it ends connections without an answer.
func StartFront(t testing.TB, name, to string) *Front {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	f := &Front{CA: NewCA(t), name: name}
	forward := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:    &http.Transport{MaxIdleConnsPerHost: 32},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	f.server = httptest.NewUnstartedServer(f.Handler(forward))
	f.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	f.server.TLS = &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { // GetCertificate is not asked if a client names no host
			return &tls.Config{Certificates: []tls.Certificate{*f.shown.Load()}}, nil
		},
	}
	f.Show(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	f.server.StartTLS()
	t.Cleanup(f.server.Close)
	started, err := url.Parse(f.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	f.Port = started.Port()
	return f
}

// Show has the server show a new certificate, valid in the given time. Connections that are open go on.
func (f *Front) Show(t testing.TB, from, until time.Time) {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(f.CA.IssueValid(t, f.name, from, until))
	if err != nil {
		t.Fatalf("loading a certificate: %v", err)
	}
	f.shown.Store(&certificate)
}

// HangUp ends all connections. New ones are taken.
func (f *Front) HangUp() { f.server.CloseClientConnections() }

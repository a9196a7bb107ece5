package azurekv

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	idleTimeout = 5 * time.Minute // longer than the pause between two probes
	maxIdle     = 32              // connections per host
	maxAnswer   = 1 << 20         // bytes; real answers have a few thousand
)

// newHTTPClient returns what the SDK sends requests with: to the vault, to Entra ID and to the machine's own endpoint for
// its identity.
func newHTTPClient(caFile string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("reading caFile: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("reading caFile: %q holds no PEM certificate", caFile)
		}
	}
	return &http.Client{
		Transport: bounded{&http.Transport{
			Proxy: httpsProxy, TLSClientConfig: config, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleTimeout,
		}},
		// A redirect is an answer: neither a token nor a secret follows one.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// httpsProxy lets TLS through the proxy of the environment: many hosts reach Azure through nothing else. The endpoint for the
// machine's identity speaks plain HTTP on this host or link, and is for no proxy's eyes.
func httpsProxy(r *http.Request) (*url.URL, error) {
	if r.URL.Scheme != "https" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// bounded refuses answers of more than maxAnswer bytes, which the SDK would read whole.
type bounded struct{ *http.Transport }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.Transport.RoundTrip(r)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, maxAnswer)
	}
	return answer, err
}

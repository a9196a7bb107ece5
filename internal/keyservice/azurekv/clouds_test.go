package azurekv_test

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// proxy is the HTTPS proxy of this process. It leads every name to the fake that a test has set, so that clients use
// the names of the real clouds.
type proxy struct {
	mu    sync.Mutex
	to    string // host:port; nothing is reached without
	asked []string
}

var theProxy proxy // the environment's, and there is one environment

func TestMain(m *testing.M) {
	server := httptest.NewServer(&theProxy)
	os.Setenv("HTTPS_PROXY", server.URL)
	os.Setenv("NO_PROXY", ".invalid")
	os.Exit(m.Run())
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	to := p.to
	p.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil || strings.HasPrefix(r.Host, "not-allowed") {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	defer server.Close()
	client, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(server, client)
	io.Copy(client, server)
}

// lead sets where names lead and forgets which were asked for.
func (p *proxy) lead(url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to, p.asked = strings.TrimPrefix(url, "https://"), nil
}

func (p *proxy) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.asked)
	return slices.Compact(p.asked)
}

// TestClouds uses the host names of every cloud, and the SDK's check that a vault asks for tokens of its own domain.
func TestClouds(t *testing.T) {
	t.Parallel()
	fakeRSA, forRSA := fixture(t, rsa)
	fakeAES, forAES := fixture(t, aes)
	for _, test := range []struct{ cloud, vaults, hsms, login string }{
		{"public", "vault.azure.net", "managedhsm.azure.net", "login.microsoftonline.com"},
		{"government", "vault.usgovcloudapi.net", "managedhsm.usgovcloudapi.net", "login.microsoftonline.us"},
		{"china", "vault.azure.cn", "managedhsm.azure.cn", "login.chinacloudapi.cn"},
	} {
		fake, config, name, domain := fakeRSA, forRSA, "myvault.", test.vaults
		for range 2 {
			config.Cloud, config.VaultURL, config.AuthorityHost = test.cloud, "", ""
			fake.SetResource("https://" + domain)
			theProxy.lead(fake.URL)
			keyservicetest.RoundTrip(t, open(t, config))
			want := []string{"CONNECT " + test.login + ":443", "CONNECT " + name + domain + ":443"}
			slices.Sort(want)
			if got := theProxy.names(); !slices.Equal(got, want) {
				t.Errorf("%s: asked for %q, want %q", test.cloud, got, want)
			}
			for _, other := range []string{"https://vault.example.com", "https://management.azure.com", "https://" + domain[1:]} {
				fake.SetResource(other)
				_, _, err := open(t, config).Versions(t.Context())
				wantKind(t, err, keyservice.Invalid, "tokens that are not meant for it")
			}
			fake, config, name, domain = fakeAES, forAES, "myhsm.", test.hsms
		}
	}
}

func pemFile(t testing.TB, cert *x509.Certificate) string {
	t.Helper()
	return string(file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))))
}

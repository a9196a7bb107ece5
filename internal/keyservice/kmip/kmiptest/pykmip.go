package kmiptest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovh/kmip-go/kmipclient"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

// PyKMIP is a running PyKMIP server with a database of its own.
type PyKMIP struct {
	*testserver.Process
	Address    string // host:port
	CA         *testserver.CA
	ClientCert string
	ClientKey  string
}

// The interpreter is the system's, which has PyKMIP, and not whichever is first in PATH.
const (
	python = "/usr/bin/python3"
	pykmip = "/usr/bin/pykmip-server"
)

// launcher runs the server so that its helper processes end with it (prctl's PR_SET_PDEATHSIG with SIGKILL).
const launcher = "import ctypes, os, runpy\n" +
	"prctl = ctypes.CDLL(None).prctl\n" +
	"os.register_at_fork(after_in_child=lambda: prctl(1, 9))\n" +
	"runpy.run_path('" + pykmip + "', run_name='__main__')\n"

// StartPyKMIP starts PyKMIP on a free port of 127.0.0.1. Without it the test ends as testserver.Missing says.
func StartPyKMIP(t testing.TB) *PyKMIP {
	t.Helper()
	if _, err := os.Stat(pykmip); err != nil {
		testserver.Missing(t, pykmip, "run: apt-get install python3-pykmip")
	}
	p := &PyKMIP{Address: testserver.FreeAddress(t), CA: testserver.NewCA(t)}
	p.ClientCert, p.ClientKey = p.CA.Issue(t, "client")
	cert, key := p.CA.Issue(t, "pykmip")
	host, port, _ := net.SplitHostPort(p.Address) // FreeAddress made it
	dir := t.TempDir()
	config := filepath.Join(dir, "server.conf")
	text := fmt.Sprintf("[server]\nhostname=%s\nport=%s\ncertificate_path=%s\nkey_path=%s\nca_path=%s\nauth_suite=TLS1.2\n"+
		"policy_path=%s\nenable_tls_client_auth=True\nlogging_level=ERROR\ndatabase_path=%s\n",
		host, port, cert, key, p.CA.File, dir, filepath.Join(dir, "pykmip.db"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Process = testserver.Start(t, testserver.Command{
		Name: "pykmip", Path: python,
		Args:  []string{"-c", launcher, "-f", config, "-l", filepath.Join(dir, "pykmip.log")},
		Ready: p.answers,
	})
	t.Cleanup(p.Kill) // asked to end, it first waits for its idle clients
	return p
}

func (p *PyKMIP) answers(ctx context.Context) error {
	client, err := p.dial(ctx)
	if err != nil {
		return err
	}
	return client.Close()
}

func (p *PyKMIP) dial(ctx context.Context) (*kmipclient.Client, error) {
	return kmipclient.DialContext(ctx, p.Address,
		kmipclient.WithRootCAFile(p.CA.File), kmipclient.WithClientCertFiles(p.ClientCert, p.ClientKey))
}

// Admin returns a client that may do everything, for as long as the test lasts.
func (p *PyKMIP) Admin(t testing.TB) *kmipclient.Client {
	t.Helper()
	client, err := p.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

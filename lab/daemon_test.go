package lab_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/trousseau-io/trousseau/internal/kmsclient"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// daemon is a running trousseaud. A restart keeps its configuration.
type daemon struct {
	*testserver.Process
	socket string
	web    string // URL of its health and metrics

	file, before string // the configuration, and what stands in it before the keys
}

// daemonConfig is what differs between the daemons of these tests.
type daemonConfig struct {
	key     string // one entry of keys, as flow YAML without its braces: "name: disk, local: {...}"
	more    string // what follows it: further keys and policies, as lines of YAML
	outage  string // empty means the default
	probe   string // how often it probes; empty means 1s
	lineage string // of the cluster whose nodes share it; empty draws one
	env     []string
	bin     string   // folder in bin/ of the program
	alive   bool     // do not wait for its keys: it is started while some are away
	inside  []string // command that runs the program somewhere else
}

// startDaemon starts a daemon that probes as often as it may, so that it is the API server that a test waits for.
func startDaemon(t *testing.T, config daemonConfig) *daemon {
	t.Helper()
	program := testserver.Binary(t, filepath.Join(config.bin, "trousseaud"), "run: make build build-pkcs11")
	dir := shortDir(t)
	socket, listen := filepath.Join(dir, "kms.sock"), testserver.FreeAddress(t)
	if config.outage == "" {
		config.outage = "fail-closed"
	}
	if config.probe == "" {
		config.probe = "1s"
	}
	if config.lineage == "" {
		config.lineage = newLineage()
	}
	d := &daemon{
		socket: socket, web: "http://" + listen, file: filepath.Join(dir, "trousseaud.yaml"),
		before: fmt.Sprintf(`apiVersion: trousseau.io/v1
kind: DaemonConfiguration
cluster: {name: lab, lineage: "%s"}
socket: {path: %s}
status: {outage: %s, probeInterval: %s, activationDelay: 1s}
observe: {listen: "%s"}
keys:
`, config.lineage, socket, config.outage, config.probe, listen),
	}
	d.configure(t, config)

	path := "/readyz"
	if config.alive {
		path = "/livez"
	}
	ready := func(ctx context.Context) error { return get(ctx, d.web+path) }
	command := append(config.inside, program, "--config", d.file)
	d.Process = testserver.Start(t, testserver.Command{
		Name: "trousseaud", Path: command[0], Args: command[1:], Env: config.env, Ready: ready,
	})
	return d
}

// configure writes the keys and what follows them anew, as an operator does while the daemon runs.
func (d *daemon) configure(t *testing.T, config daemonConfig) {
	t.Helper()
	text := d.before + "- {" + config.key + "}\n" + config.more
	if err := os.WriteFile(d.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// kmsV2 and kmsV1 are the providers that make an API server use the daemon.
func (d *daemon) kmsV2() string {
	return fmt.Sprintf("kms: {apiVersion: v2, name: trousseau, endpoint: \"unix://%s\"}", d.socket)
}

func (d *daemon) kmsV1() string {
	return fmt.Sprintf("kms: {apiVersion: v1, name: trousseau, endpoint: \"unix://%s\", cachesize: 10}", d.socket)
}

// status asks as an API server does, and returns the key id of a good status.
func (d *daemon) status(ctx context.Context) (keyID string, err error) {
	client, err := kmsclient.Dial(kmsclient.Options{Socket: d.socket})
	if err != nil {
		return "", err
	}
	defer client.Close()
	status, err := client.Status(ctx)
	if err == nil && status.Healthz != "ok" {
		err = errors.New(status.Healthz)
	}
	return status.KeyID, err
}

// metrics returns all metrics as text.
func (d *daemon) metrics() (string, error) {
	answer, err := http.Get(d.web + "/metrics")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// vaultKey starts a Vault with a key in it, and returns the entry of keys that uses it.
func vaultKey(t *testing.T) (vault *testserver.Vault, entry string) {
	t.Helper()
	vault = testserver.StartVault(t)
	vault.MountTransit("transit")
	vault.CreateKey("transit", "k8s", map[string]any{"type": "aes256-gcm96"})
	token := writeFile(t, t.TempDir(), "token", vault.RootToken)
	return vault, fmt.Sprintf("name: bao, vault: {addresses: [%q], mount: transit, key: k8s, auth: {tokenFile: %s}}",
		vault.Address, token)
}

// newLineage draws what makes a cluster unlike all others.
func newLineage() string {
	lineage := make([]byte, 16)
	rand.Read(lineage)
	return hex.EncodeToString(lineage)
}

// shortDir returns a folder whose path leaves room for the name of a socket; t.TempDir has the test's name in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// get returns an error unless the URL answers 200.
func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return nil
}

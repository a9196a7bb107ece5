package soak_test

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
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
	"github.com/trousseau-io/trousseau/lab/keyservices"
)

// service is a key service that can be broken.
type service struct {
	name   string
	faults *testserver.Faults
	vault  *testserver.Vault // nil for the fakes
}

// startServices starts a real Vault behind a front, and two fakes. It returns them with the entries of keys that use them.
func startServices(t *testing.T) (services []service, entries []string) {
	t.Helper()
	vault := testserver.StartVault(t)
	vault.MountTransit("transit")
	vault.CreateKey("transit", "k8s", map[string]any{"type": "aes256-gcm96"})
	front := testserver.StartFront(t, "vault", vault.Address)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(vault.RootToken), 0o600); err != nil {
		t.Fatal(err)
	}
	services = append(services, service{"vault", &front.Faults, vault})
	entries = append(entries, fmt.Sprintf("name: vault, vault: {addresses: [\"https://127.0.0.1:%s\"], caFile: %s, mount: transit, key: k8s, auth: {tokenFile: %s}}",
		front.Port, front.CA.File, token))
	for _, kind := range keyservices.All() {
		if kind.Name == "awskms" || kind.Name == "azurekv" {
			key := kind.Start(t)
			services = append(services, service{kind.Name, key.Faults, nil})
			entries = append(entries, key.Entry)
		}
	}
	return services, entries
}

// daemon is a running trousseaud.
type daemon struct {
	*testserver.Process
	socket string
	web    string // URL
}

// startDaemon starts the program over keys named vault, aws and azure, two of which open. It logs to a file.
func startDaemon(t *testing.T, entries []string) *daemon {
	t.Helper()
	program := testserver.Binary(t, "trousseaud", "run: make build")
	dir, err := os.MkdirTemp("", "soak") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	lineage := make([]byte, 16)
	rand.Read(lineage)
	listen, config := testserver.FreeAddress(t), filepath.Join(dir, "trousseaud.yaml")
	d := &daemon{socket: filepath.Join(dir, "kms.sock"), web: "http://" + listen}
	err = os.WriteFile(config, fmt.Appendf(nil, `apiVersion: trousseau.io/v1
kind: DaemonConfiguration
cluster: {name: soak, lineage: "%s"}
socket: {path: %s}
status: {probeInterval: 1s, activationDelay: 1s}
observe: {listen: "%s"}
keys:
- {%s}
policies: [{keys: [vault, aws, azure], need: 2}]
`, hex.EncodeToString(lineage), d.socket, listen, strings.Join(entries, "}\n- {")), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	d.Process = testserver.Start(t, testserver.Command{
		Name: "trousseaud", Path: program, Args: []string{"--config", config}, Ready: func(context.Context) error { return d.full() },
	})
	return d
}

// full returns an error unless every key works.
func (d *daemon) full() error {
	metrics, err := d.metrics()
	if err == nil && !strings.Contains(metrics, `trousseau_state{state="full"} 1`) {
		err = errors.New("not every key works")
	}
	return err
}

// fullAgain waits until every key works and returns how long that took.
func (d *daemon) fullAgain(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		err := d.full()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("not within a minute after the repair: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (d *daemon) metrics() (string, error) {
	answer, err := http.Get(d.web + "/metrics")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// gauge returns the value of a metric without labels.
func (d *daemon) gauge(t *testing.T, name string) (value float64) {
	t.Helper()
	metrics, err := d.metrics()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(metrics) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			fmt.Sscan(rest, &value)
			return value
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

package perf_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/openbao/openbao/api/v2"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/testserver"
	"github.com/trousseau-io/trousseau/lab/keyservices"
)

// vault is the real server, near and far.
type vault struct {
	*testserver.Vault
	far string // the same through a proxy that holds each answer for 5 ms
}

func startVault(b *testing.B) *vault {
	v := testserver.StartVault(b)
	v.MountTransit("transit")
	v.CreateKey("transit", "k8s", map[string]any{"type": "aes256-gcm96"})
	far, _ := behind(b, v.Address, fiveAway)
	return &vault{v, far}
}

// fiveAway is the toxic that holds each answer for 5 ms.
const fiveAway = `{"type": "latency", "attributes": {"latency": 5}}`

// behind puts a proxy with a toxic before the server at a URL, and returns the proxy's.
func behind(b *testing.B, server, toxic string) (url string, added *toxics.ToxicWrapper) {
	scheme, address, _ := strings.Cut(server, "://")
	listen := testserver.FreeAddress(b)
	proxy := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), address, listen, address)
	if err := proxy.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(proxy.Stop)
	added, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic))
	if err != nil {
		b.Fatal(err)
	}
	return scheme + "://" + listen, added
}

func (v *vault) version(b *testing.B) string {
	health, err := v.Client().Sys().Health()
	if err != nil {
		b.Fatal(err)
	}
	return health.Version
}

// client calls the server at an address directly, as the daemon's key service does.
func (v *vault) client(b *testing.B, address string) *api.Logical {
	client := v.Client()
	if err := client.SetAddress(address); err != nil {
		b.Fatal(err)
	}
	client.CloneConfig().HttpClient.Transport.(*http.Transport).MaxIdleConnsPerHost = 32 // as many as the daemon keeps
	return client.Logical()
}

// key is the entry of keys that uses the server at an address.
func (v *vault) key(b *testing.B, address string) string {
	return "name: bao, " + v.service(b, address)
}

func (v *vault) service(b *testing.B, address string) string {
	return fmt.Sprintf("vault: {addresses: [%q], mount: transit, key: k8s, auth: {tokenFile: %s}}", address, write(b, v.RootToken))
}

// localKey makes a keystore sealed as the flags say, and returns the entry of keys that uses it.
func localKey(b *testing.B, flag, field string) string {
	secret, keystore := write(b, rand.Text()+rand.Text()), filepath.Join(b.TempDir(), "keystore")
	output(testserver.Binary(b, "trousseau", "run: make build"), "keystore", "create", flag, secret, keystore)
	return fmt.Sprintf("name: disk, local: {keystore: %s, %s: %s}", keystore, field, secret)
}

func write(b *testing.B, content string) string {
	path := filepath.Join(b.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// daemon is a running trousseaud and a client of its socket.
type daemon struct {
	*testserver.Process
	kmsv2.KeyManagementServiceClient
	conn                *grpc.ClientConn
	config, socket, web string
}

// startDaemon starts trousseaud with one key.
func startDaemon(b *testing.B, key string) *daemon { return startWith(b, keyservices.Key{Entry: key}) }

func startWith(b *testing.B, key keyservices.Key) *daemon {
	return startConfigured(b, filepath.Join(key.Bin, "trousseaud"), key.Env, fmt.Sprintf("keys:\n- {%s}\n", key.Entry))
}

// startConfigured starts trousseaud with keys and policies; it probes every 10 minutes, so that probes are in nobody's way.
func startConfigured(b *testing.B, bin string, env []string, keys string) *daemon {
	program := testserver.Binary(b, bin, "run: make build build-pkcs11")
	dir, err := os.MkdirTemp("", "bench") // b.TempDir is too long for a socket
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	lineage := make([]byte, 16)
	rand.Read(lineage)
	d := &daemon{config: filepath.Join(dir, "trousseaud.yaml"), socket: filepath.Join(dir, "kms.sock"), web: testserver.FreeAddress(b)}
	err = os.WriteFile(d.config, fmt.Appendf(nil, `apiVersion: trousseau.io/v1
kind: DaemonConfiguration
cluster: {name: bench, lineage: "%s"}
socket: {path: %s}
%sstatus: {probeInterval: 10m}
observe: {listen: "%s"}
`, hex.EncodeToString(lineage), d.socket, keys, d.web), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+d.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	d.conn, d.KeyManagementServiceClient = conn, kmsv2.NewKeyManagementServiceClient(conn)
	d.Process = testserver.Start(b, testserver.Command{Name: "trousseaud", Path: program, Args: []string{"--config", d.config}, Env: env, Ready: d.ready})
	return d
}

// ready waits for the socket, to the millisecond and without the pauses that a gRPC client makes, and then for Status.
func (d *daemon) ready(ctx context.Context) error {
	for {
		probe, err := net.Dial("unix", d.socket)
		if err == nil {
			probe.Close()
			break
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
	d.conn.ResetConnectBackoff()
	return d.status(ctx)
}

func (d *daemon) status(ctx context.Context) error {
	answer, err := d.Status(ctx, &kmsv2.StatusRequest{})
	if err == nil && answer.Healthz != "ok" {
		err = errors.New(answer.Healthz)
	}
	return err
}

func (d *daemon) metrics(b *testing.B) string {
	answer, err := http.Get("http://" + d.web + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		b.Fatal(err)
	}
	return string(body)
}

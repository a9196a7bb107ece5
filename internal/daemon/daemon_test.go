package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsv1beta1 "k8s.io/kms/apis/v1beta1"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/daemon"
	"github.com/trousseau-io/trousseau/internal/keystore"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// node is a folder with all that a daemon needs, and the daemon.
type node struct {
	dir, socket, web string
	log              lockedBuffer
	stop             func() error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newNode(t *testing.T) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "kms") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &node{dir: dir, socket: filepath.Join(dir, "kms.sock"), web: testserver.FreeAddress(t)}
	n.keystore(t, "keystore")
	n.configure(t, "")
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

func (n *node) keystore(t *testing.T, name string) {
	t.Helper()
	if _, err := keystore.Create(n.path(name), keystore.Unsealed()); err != nil {
		t.Fatal(err)
	}
}

// configure writes a configuration over the keystore, with more lines at the end.
func (n *node) configure(t *testing.T, more string) {
	t.Helper()
	n.write(t, fmt.Sprintf(`apiVersion: trousseau.io/v1
kind: DaemonConfiguration
cluster: {name: test, lineage: "7f3c00000000000000000000000000aa"}
socket: {path: %s}
observe: {listen: %q}
keys:
  - {name: disk, local: {keystore: %s, unsealed: true}}
%s`, n.socket, n.web, n.path("keystore"), more))
}

func (n *node) write(t *testing.T, content string) {
	t.Helper()
	if err := os.WriteFile(n.path("new"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(n.path("new"), n.path("config.yaml")); err != nil {
		t.Fatal(err)
	}
}

// start runs the daemon until the test ends and waits until it is ready.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.run(t)
	n.await(t, "readiness", func() bool { code, _ := n.get("/readyz"); return code == http.StatusOK })
}

// run runs the daemon until the test ends, or n.stop is called.
func (n *node) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- daemon.Run(ctx, daemon.Options{ConfigPath: n.path("config.yaml"), Release: "test", Log: &n.log})
	}()
	n.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if t.Failed() {
			t.Log(n.log.String())
		}
	})
}

func (n *node) await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if reached() {
			return
		}
	}
	t.Fatalf("%s was not reached; log:\n%s", what, n.log.String())
}

func (n *node) get(path string) (int, string) {
	answer, err := http.Get("http://" + n.web + path)
	if err != nil {
		return 0, ""
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body)
}

func (n *node) dial(t *testing.T) (kmsv2.KeyManagementServiceClient, kmsv1beta1.KeyManagementServiceClient) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+n.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return kmsv2.NewKeyManagementServiceClient(conn), kmsv1beta1.NewKeyManagementServiceClient(conn)
}

func keyID(t *testing.T, client kmsv2.KeyManagementServiceClient) string {
	t.Helper()
	status, err := client.Status(t.Context(), &kmsv2.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return status.KeyId
}

func seal(t *testing.T, client kmsv2.KeyManagementServiceClient) *kmsv2.EncryptResponse {
	t.Helper()
	sealed, err := client.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: []byte("a seed"), Uid: "1"})
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func open(t *testing.T, client kmsv2.KeyManagementServiceClient, sealed *kmsv2.EncryptResponse) error {
	t.Helper()
	opened, err := client.Decrypt(t.Context(), &kmsv2.DecryptRequest{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyId, Annotations: sealed.Annotations})
	if err == nil && string(opened.Plaintext) != "a seed" {
		t.Errorf("opened %q", opened.Plaintext)
	}
	return err
}

func TestServes(t *testing.T) {
	n := newNode(t)
	n.start(t)
	v2, v1 := n.dial(t)
	sealed := seal(t, v2)
	if sealed.KeyId != keyID(t, v2) {
		t.Errorf("sealed under %q, announced %q", sealed.KeyId, keyID(t, v2))
	}
	if err := open(t, v2, sealed); err != nil {
		t.Error(err)
	}
	if answer, err := v1.Version(t.Context(), &kmsv1beta1.VersionRequest{Version: "v1beta1"}); err != nil || answer.RuntimeVersion != "test" {
		t.Errorf("KMS v1: %v, %v", answer, err)
	}
	if code, body := n.get("/livez"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/livez: %d %q", code, body)
	}
	if _, body := n.get("/readyz"); !strings.Contains(body, sealed.KeyId) {
		t.Errorf("/readyz does not tell the key id: %q", body)
	}
	_, metrics := n.get("/metrics")
	for _, want := range []string{
		`trousseau_kms_calls_total{api="v2",code="OK",method="Encrypt"} 1`,
		`trousseau_key_calls_total{key="local",op="wrap",result="ok"}`,
		`trousseau_state{state="full"} 1`, `trousseau_ready 1`, `trousseau_key_up{key="local",role="seals"} 1`,
		`key_id="` + sealed.KeyId + `"`, `trousseau_config_loads_total{result="ok"} 1`, `trousseau_build_info{release="test"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestV1beta1CanBeSwitchedOff(t *testing.T) {
	n := newNode(t)
	n.configure(t, "disableV1beta1: true\n")
	n.start(t)
	_, v1 := n.dial(t)
	if _, err := v1.Version(t.Context(), &kmsv1beta1.VersionRequest{Version: "v1beta1"}); err == nil {
		t.Error("KMS v1 is answered")
	}
}

func TestReloadWithoutClosingTheSocket(t *testing.T) {
	n := newNode(t)
	n.start(t)
	v2, _ := n.dial(t)
	old := seal(t, v2)

	n.configure(t, "policies: [{keys: [disk], generation: 1}, {keys: [disk]}]\n")
	n.await(t, "the new generation", func() bool { return keyID(t, v2) != old.KeyId })
	if err := open(t, v2, old); err != nil {
		t.Errorf("what the policy before sealed: %v", err)
	}
	renewed := seal(t, v2)

	n.configure(t, "policies: [{keys: [disk], generation: 1}]\n")
	n.await(t, "the end of the old policy", func() bool { return open(t, v2, old) != nil })
	if err := open(t, v2, renewed); err != nil {
		t.Error(err)
	}
	_, metrics := n.get("/metrics")
	if !strings.Contains(metrics, `trousseau_config_loads_total{result="ok"} 3`) {
		t.Error("the loads are not counted")
	}
}

func TestBadConfigurationIsRefusedOnce(t *testing.T) {
	n := newNode(t)
	n.start(t)
	v2, _ := n.dial(t)
	before := keyID(t, v2)
	good, err := os.ReadFile(n.path("config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	n.write(t, string(good)+"unknownField: 1\n")
	n.await(t, "the refusal", func() bool { return strings.Contains(n.log.String(), "refusing the configuration") })
	time.Sleep(5 * time.Second) // two polls more
	if got := strings.Count(n.log.String(), "refusing the configuration"); got != 1 {
		t.Errorf("refused in %d lines", got)
	}
	for _, want := range []string{"unknownField", "config.yaml:8", "SIGHUP"} {
		if !strings.Contains(n.log.String(), want) {
			t.Errorf("the refusal does not tell %q", want)
		}
	}
	if keyID(t, v2) != before {
		t.Error("the configuration in use did not stay")
	}
	if _, metrics := n.get("/metrics"); !strings.Contains(metrics, `trousseau_config_loads_total{result="refused"} 1`) {
		t.Error("the refusal is not counted")
	}
}

func TestKeyThatDoesNotWorkIsNotTaken(t *testing.T) {
	n := newNode(t)
	n.start(t)
	v2, _ := n.dial(t)
	before := keyID(t, v2)
	n.configure(t, fmt.Sprintf("  - {name: gone, id: gone, local: {keystore: %s, unsealed: true}}\npolicies: [{keys: [gone]}, {keys: [disk]}]\n", n.path("none")))
	n.await(t, "the refusal", func() bool { return strings.Contains(n.log.String(), "refusing the configuration") })
	if keyID(t, v2) != before {
		t.Error("the configuration in use did not stay")
	}
}

func TestHangupReloads(t *testing.T) {
	n := newNode(t)
	n.start(t)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	n.await(t, "the reload", func() bool { return strings.Contains(n.log.String(), "configuration taken") })
}

func TestSecondDaemonIsRefused(t *testing.T) {
	n := newNode(t)
	n.start(t)
	n.configure(t, "") // the same socket
	err := daemon.Run(t.Context(), daemon.Options{ConfigPath: n.path("config.yaml"), Log: io.Discard})
	if err == nil || daemon.Hint(err) == "" {
		t.Errorf("a second daemon on the socket: %v, hint %q", err, daemon.Hint(err))
	}
	if code, _ := n.get("/readyz"); code != http.StatusOK {
		t.Error("the first one is disturbed")
	}
}

func TestStartErrorsSayWhatToDo(t *testing.T) {
	tests := map[string]func(*node){
		"no configuration": func(n *node) { os.Remove(n.path("config.yaml")) },
		"unknown field":    func(n *node) { n.configure(t, "oops: 1\n") },
		"no keystore":      func(n *node) { os.Remove(n.path("keystore")) },
		"damaged keystore": func(n *node) { os.Truncate(n.path("keystore"), 20) },
		"address in use":   func(n *node) { n.web = busyAddress(t); n.configure(t, "") },
		"file in place of the socket": func(n *node) {
			os.WriteFile(n.socket, []byte("precious"), 0o600)
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			spoil(n)
			err := daemon.Run(t.Context(), daemon.Options{ConfigPath: n.path("config.yaml"), Log: io.Discard})
			if err == nil {
				t.Fatal("it ran")
			}
			if hint := daemon.Hint(err); hint == "" && !strings.Contains(err.Error(), "run ") {
				t.Errorf("no way out: %v", err)
			}
		})
	}
}

func busyAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

func TestStopFinishesAndRemovesTheSocket(t *testing.T) {
	n := newNode(t)
	n.start(t)
	v2, _ := n.dial(t)
	var calls sync.WaitGroup
	begun := make(chan struct{})
	for range 50 {
		calls.Go(func() {
			<-begun
			sealed, err := v2.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: []byte("a seed")}, grpc.WaitForReady(false))
			if err == nil && len(sealed.Ciphertext) == 0 {
				t.Error("an empty answer")
			}
		})
	}
	close(begun)
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	calls.Wait()
	if _, err := os.Lstat(n.socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// A daemon that is stopped before it has answered anybody ends as one that served for a year.
func TestStopRightAfterTheStart(t *testing.T) {
	n := newNode(t)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		log := writerFunc(func(p []byte) (int, error) {
			if bytes.Contains(p, []byte("msg=serving")) {
				cancel()
			}
			return len(p), nil
		})
		if err := daemon.Run(ctx, daemon.Options{ConfigPath: n.path("config.yaml"), Log: log}); err != nil {
			t.Errorf("stopping: %v", err)
		}
		cancel()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestSystemdIsToldOfReadiness(t *testing.T) {
	n := newNode(t)
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", n.path("notify"))
	n.start(t)
	said := make([]byte, 64)
	systemd.SetReadDeadline(time.Now().Add(5 * time.Second))
	if got, err := systemd.Read(said); err != nil || string(said[:got]) != "READY=1" {
		t.Errorf("systemd was told %q, %v", said[:got], err)
	}
}

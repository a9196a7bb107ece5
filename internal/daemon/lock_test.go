package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsv1beta1 "k8s.io/kms/apis/v1beta1"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/admin"
	"github.com/trousseau-io/trousseau/internal/coldstart"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream/upstreamtest"
	"github.com/trousseau-io/trousseau/internal/lockdown"
	"github.com/trousseau-io/trousseau/internal/nodelock"
)

func (n *node) options(reason string) nodelock.Options {
	return nodelock.Options{Config: n.path("config.yaml"), Reason: reason}
}

func (n *node) marker() lockdown.Marker { return lockdown.Of(n.path("config.yaml"), n.socket) }

// lockdown locks the node and wants nothing to be left open.
func (n *node) lockdown(t *testing.T, reason string) {
	t.Helper()
	r := nodelock.Lock(t.Context(), n.options(reason))
	if !r.Locked || finding.Worst(r.Findings) > finding.OK {
		t.Errorf("locking: %+v", r)
	}
}

// wantLocked calls every method, and wants each to be refused for a reason.
func (n *node) wantLocked(t *testing.T, reason string) {
	t.Helper()
	v2, v1 := n.dial(t)
	_, statusErr := v2.Status(t.Context(), &kmsv2.StatusRequest{})
	_, encryptErr := v2.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: []byte("a seed")})
	_, decryptErr := v2.Decrypt(t.Context(), &kmsv2.DecryptRequest{})
	_, versionErr := v1.Version(t.Context(), &kmsv1beta1.VersionRequest{Version: "v1beta1"})
	_, encrypt1Err := v1.Encrypt(t.Context(), &kmsv1beta1.EncryptRequest{Version: "v1beta1", Plain: []byte("a seed")})
	_, decrypt1Err := v1.Decrypt(t.Context(), &kmsv1beta1.DecryptRequest{Version: "v1beta1"})
	for i, err := range []error{statusErr, encryptErr, decryptErr, versionErr, encrypt1Err, decrypt1Err} {
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "locked down") ||
			!strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "trousseau unlock") {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// callers call without a pause until the test ends, as several API servers that start at once.
type callers struct {
	last  atomic.Int64 // when the last call began that was answered well, in nanoseconds since 1970
	count atomic.Int64 // of such calls
}

func (n *node) load(t *testing.T, sealed *kmsv2.EncryptResponse) *callers {
	t.Helper()
	c := new(callers)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for i := range 16 {
		v2, v1 := n.dial(t)
		running.Go(func() {
			for ctx.Err() == nil {
				var err error
				began := time.Now().UnixNano()
				switch i % 4 {
				case 0:
					_, err = v2.Encrypt(ctx, &kmsv2.EncryptRequest{Plaintext: []byte("a seed")})
				case 1:
					_, err = v1.Encrypt(ctx, &kmsv1beta1.EncryptRequest{Version: "v1beta1", Plain: []byte("a seed")})
				default:
					_, err = v2.Decrypt(ctx, &kmsv2.DecryptRequest{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyId})
				}
				if err == nil {
					for last := c.last.Load(); last < began && !c.last.CompareAndSwap(last, began); last = c.last.Load() {
					}
					c.count.Add(1)
				}
			}
		})
	}
	n.await(t, "load", func() bool { return c.count.Load() > 100 })
	return c
}

// TestLockdown locks a node under load, which restarts, reloads and changed configurations do not unlock.
func TestLockdown(t *testing.T) {
	n := newNode(t)
	audit := "auditLog: {file: " + n.path("audit.log") + "}\n"
	n.configure(t, audit)
	n.start(t)
	v2, _ := n.dial(t)
	sealed := seal(t, v2)
	for _, name := range []string{coldstart.SpareName, coldstart.SeedsName} {
		if err := os.WriteFile(n.path(name), []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := n.load(t, sealed)
	called := time.Now()
	n.lockdown(t, "ticket 4711")
	answered := c.count.Load()
	time.Sleep(time.Second)
	late := time.Unix(0, c.last.Load()).Sub(called)
	t.Logf("the last call that was answered well began %s after lockdown was called", late)
	if more := c.count.Load() - answered; late > 100*time.Millisecond || more > 0 {
		t.Errorf("a call that began %s after lockdown was called was answered, and %d after it had ended", late, more)
	}
	for _, name := range []string{coldstart.SpareName, coldstart.SeedsName} {
		if _, err := os.Lstat(n.path(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.wantLocked(t, "ticket 4711")
	n.wantLockedHealth(t)

	n.configure(t, audit+"policies: [{keys: [disk], generation: 1}, {keys: [disk]}]\n")
	n.await(t, "the reload", func() bool { return strings.Contains(n.log.String(), "configuration taken") })
	n.wantLocked(t, "ticket 4711")
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.run(t)
	n.await(t, "the restart", func() bool { code, _ := n.get("/livez"); return code == http.StatusOK })
	n.wantLocked(t, "ticket 4711")
	n.wantLockedHealth(t)
	n.lockdown(t, "again") // changes nothing
	n.wantLocked(t, "ticket 4711")

	r := nodelock.Unlock(t.Context(), n.options("all is well"))
	if r.Locked || finding.Worst(r.Findings) > finding.OK {
		t.Errorf("unlocking: %+v", r)
	}
	v2, _ = n.dial(t)
	if err := open(t, v2, sealed); err != nil {
		t.Errorf("what was sealed before: %v", err)
	}
	if code, body := n.get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d %q", code, body)
	}
	var noted []string
	for _, line := range auditLines(t, n.path("audit.log")) {
		if strings.Contains(line.Event, "lock") {
			noted = append(noted, line.Event+line.Reason)
		}
	}
	if got := strings.Join(noted, ", "); got != "lockdown, lockdown, unlockall is well, unlocked" { // twice: it starts locked
		t.Errorf("the audit log has %s", got)
	}
}

func (n *node) wantLockedHealth(t *testing.T) {
	t.Helper()
	if code, body := n.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "locked down since") {
		t.Errorf("/readyz: %d %q", code, body)
	}
	if code, _ := n.get("/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d", code)
	}
	_, metrics := n.get("/metrics")
	if !strings.Contains(metrics, "\ntrousseau_locked 1\n") || !strings.Contains(metrics, "\ntrousseau_ready 0\n") {
		t.Error("the metrics do not tell that the node is locked")
	}
}

// TestLockdownOfCallsUnderWay locks a node while calls wait for a key service, and for their turn.
func TestLockdownOfCallsUnderWay(t *testing.T) {
	other := upstreamtest.Start(t)
	n := newNode(t)
	n.write(t, fmt.Sprintf(`apiVersion: trousseau.io/v1
kind: DaemonConfiguration
cluster: {name: test, lineage: "7f3c00000000000000000000000000aa"}
socket: {path: %s, maxCalls: 4}
status: {probeInterval: 1s}
observe: {listen: %q}
keys: [{name: other, upstream: {socket: %s}}]
`, n.socket, n.web, other.Socket))
	n.start(t)
	v2, _ := n.dial(t)
	sealed := seal(t, v2)
	answerAgain := other.Behave(upstreamtest.Behaviour{Stall: true})
	outcomes := make(chan error)
	for i := range 8 { // each its own, so that they do not share a call
		go func() {
			_, err := v2.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: fmt.Appendf(nil, "seed %d", i)})
			outcomes <- err
		}()
		go func() {
			_, err := v2.Decrypt(t.Context(), &kmsv2.DecryptRequest{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyId, Annotations: sealed.Annotations})
			outcomes <- err
		}()
	}
	time.Sleep(200 * time.Millisecond) // until they wait
	n.lockdown(t, "under way")
	answerAgain()
	for range 16 {
		if err := <-outcomes; status.Code(err) != codes.FailedPrecondition {
			t.Errorf("a call under way: %v", err)
		}
	}

	before := n.keyCalls()
	time.Sleep(3 * time.Second) // three probes
	if after := n.keyCalls(); after != before {
		t.Errorf("a locked daemon calls its key service:\n%s\nthen\n%s", before, after)
	}
	if r := nodelock.Unlock(t.Context(), n.options("over")); r.Locked || finding.Worst(r.Findings) > finding.OK {
		t.Errorf("unlocking: %+v", r)
	}
	if err := open(t, v2, sealed); err != nil {
		t.Error(err)
	}
}

// keyCalls returns what the metrics say of calls to key services.
func (n *node) keyCalls() string {
	_, metrics := n.get("/metrics")
	var calls strings.Builder
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "trousseau_key_calls_total{") {
			calls.WriteString(line)
		}
	}
	return calls.String()
}

// TestUnreadableMarkerLocks starts a daemon beside a marker that says nothing.
func TestUnreadableMarkerLocks(t *testing.T) {
	n := newNode(t)
	if err := os.Symlink("nowhere", n.marker()[0]); err != nil {
		t.Fatal(err)
	}
	n.run(t)
	n.await(t, "the start", func() bool { code, _ := n.get("/livez"); return code == http.StatusOK })
	n.wantLocked(t, "does not say since when")
	if err := os.Remove(n.marker()[0]); err != nil { // by hand
		t.Fatal(err)
	}
	n.await(t, "readiness", func() bool { code, _ := n.get("/readyz"); return code == http.StatusOK })
}

// TestLockdownWithoutAMarker asks a daemon that sees none: the request alone locks, until unlock or the end.
func TestLockdownWithoutAMarker(t *testing.T) {
	n := newNode(t)
	n.start(t)
	at := admin.Socket(n.socket)
	if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the admin socket: %v, %v", info, err)
	}
	var is admin.LockAnswer
	err := admin.Post(t.Context(), at, admin.LockdownPath, lockdown.Note{Time: time.Now(), Reason: "no marker"}, &is)
	if err != nil || !is.Locked || is.Seen || len(is.Marker) != 2 || is.Marker[0] != n.marker()[0] {
		t.Errorf("%+v, %v", is, err)
	}
	n.wantLocked(t, "no marker")
	if err := admin.Post(t.Context(), at, admin.UnlockPath, lockdown.Note{Reason: "over"}, &is); err != nil || is.Locked {
		t.Errorf("%+v, %v", is, err)
	}
	if code, _ := n.get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d", code)
	}
	if err := admin.Post(t.Context(), at, "/frobnicate", nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("an unknown path: %v", err)
	}
	if err := admin.Post(t.Context(), at, admin.LockdownPath, "no note", nil); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a request that is none: %v", err)
	}
}

// TestLockdownOfAnotherConfiguration is told paths that the daemon does not look at.
func TestLockdownOfAnotherConfiguration(t *testing.T) {
	n := newNode(t)
	n.start(t)
	dir := t.TempDir()
	o := nodelock.Options{Config: filepath.Join(dir, "other.yaml"), Socket: filepath.Join(dir, "kms.sock")}
	r := nodelock.Lock(t.Context(), o)
	if !r.Locked || finding.Worst(r.Findings) != finding.Warning { // there is nobody, and the configuration is missing
		t.Errorf("%+v", r)
	}
	if code, _ := n.get("/readyz"); code != http.StatusOK {
		t.Error("another node's marker has locked this one")
	}
	o.Socket = n.socket // the right socket is enough
	r = nodelock.Lock(t.Context(), o)
	if !r.Locked {
		t.Errorf("%+v", r)
	}
	n.wantLocked(t, "locked down")
	if err := n.marker().Remove(); err != nil {
		t.Fatal(err)
	}
}

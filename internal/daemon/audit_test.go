package daemon_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsv1beta1 "k8s.io/kms/apis/v1beta1"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/admin"
	"github.com/trousseau-io/trousseau/internal/auditlog"
	"github.com/trousseau-io/trousseau/internal/daemon"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/socket"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// auditLine is a line of the audit log.
type auditLine struct {
	Event, API, UID, Code, Config, Result, Reason, Note string

	KeyID   string  `json:"key_id"`
	PeerUID *uint32 `json:"peer_uid"`
	PeerPID int     `json:"peer_pid"`
	Callers int
	Count   int
}

func auditLines(t *testing.T, path string) (all []auditLine) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, l)
	}
	return all
}

func events(all []auditLine) string {
	var names []string
	for _, l := range all {
		names = append(names, l.Event)
	}
	return strings.Join(names, " ")
}

// head asks the daemon for a head as the operator's tool does.
func (n *node) head(t *testing.T) auditlog.Mark {
	t.Helper()
	var answer json.RawMessage
	if err := admin.Post(t.Context(), admin.Socket(n.socket), admin.AuditLogHeadPath, nil, &answer); err != nil {
		t.Fatal(err)
	}
	head, err := auditlog.ParseHead(answer)
	if err != nil {
		t.Fatal(err)
	}
	return auditlog.Mark{Name: "head", Head: head}
}

func TestAuditLog(t *testing.T) {
	n := newNode(t)
	file := n.path("audit.log")
	n.configure(t, "auditLog: {file: "+file+"}\n")
	n.start(t)
	n.await(t, "the line of the first key id", func() bool { return strings.HasSuffix(events(auditLines(t, file)), "key-id") })
	head := n.head(t)
	v2, v1 := n.dial(t)
	sealed := seal(t, v2)
	if err := open(t, v2, sealed); err != nil {
		t.Error(err)
	}
	old, err := v1.Encrypt(t.Context(), &kmsv1beta1.EncryptRequest{Version: "v1beta1", Plain: []byte("a seed")})
	if err != nil {
		t.Error(err)
	}
	if _, err := v1.Decrypt(t.Context(), &kmsv1beta1.DecryptRequest{Version: "v1beta1", Cipher: old.Cipher}); err != nil {
		t.Error(err)
	}
	_, err = v2.Decrypt(t.Context(), &kmsv2.DecryptRequest{Uid: "bad", KeyId: "x", Ciphertext: []byte("garbage")})
	if status.Code(err) != codes.DataLoss {
		t.Error(err)
	}
	keyID(t, v2)
	n.configure(t, "oops: 1\n")
	n.await(t, "the refusal", func() bool { return strings.Contains(n.log.String(), "refusing the configuration") })
	n.configure(t, "auditLog: {file: "+file+"}\npolicies: [{keys: [disk], generation: 1}, {keys: [disk]}]\n")
	n.await(t, "the new generation", func() bool { return keyID(t, v2) != sealed.KeyId })
	n.lockdown(t, "a test")
	if _, err := v2.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: []byte("a seed")}); status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
	_, metrics := n.get("/metrics")
	if err := n.stop(); err != nil {
		t.Error(err)
	}

	all := auditLines(t, file)
	want := "chain-started started key-id head-exported wrap open wrap open open reload key-id reload lockdown wrap wrap stopped" // one wrap is the tool's, which proves that the node is locked
	if got := events(all); got != want {
		t.Fatalf("lines:\n%s\nwant:\n%s", got, want)
	}
	for i, want := range map[int]auditLine{
		4:  {API: "v2", UID: "1", KeyID: sealed.KeyId, Code: "OK"},
		5:  {API: "v2", KeyID: sealed.KeyId, Code: "OK"},
		6:  {API: "v1beta1", Code: "OK"},
		8:  {API: "v2", UID: "bad", KeyID: "x", Code: "DataLoss"},
		14: {API: "v2", Code: "FailedPrecondition"},
	} {
		got := all[i]
		if got.PeerUID == nil || int(*got.PeerUID) != os.Getuid() || got.PeerPID != os.Getpid() {
			t.Errorf("line %d: peer %v %d", i, got.PeerUID, got.PeerPID)
		}
		want.Event, want.PeerUID, want.PeerPID = got.Event, got.PeerUID, got.PeerPID
		if got != want {
			t.Errorf("line %d: %+v, want %+v", i, got, want)
		}
	}
	if l := all[9]; l.Result != "refused" || !strings.Contains(l.Reason, "oops") {
		t.Errorf("%+v", l)
	}
	if l := all[10]; l.KeyID == "" || l.KeyID == sealed.KeyId || all[2].KeyID != sealed.KeyId {
		t.Errorf("%+v", l)
	}
	if l := all[12]; !strings.Contains(l.Note, "a test") {
		t.Errorf("%+v", l)
	}
	if want := fmt.Sprintf("trousseau_audit_log_lines_total %d\n", len(all)-1); !strings.Contains(metrics, want) {
		t.Errorf("/metrics lacks %s", want)
	}
	wantInOrder(t, file, head)
}

// wantInOrder fails the test unless all lines from the head on are proven and nothing is wrong.
func wantInOrder(t *testing.T, file string, head auditlog.Mark) {
	t.Helper()
	report, err := auditlog.Verify([]string{file}, []auditlog.Mark{head})
	if err != nil || finding.Worst(report.Findings) > finding.Info || report.Verified != report.Last+1-head.Head.Seq {
		t.Errorf("%v, %+v", err, report)
	}
}

func TestDeniedCallersAreInTheAuditLog(t *testing.T) {
	n := newNode(t)
	n.configure(t, "auditLog: {file: "+n.path("audit.log")+"}\n")
	text, err := os.ReadFile(n.path("config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	n.write(t, strings.Replace(string(text), "kms.sock}", "kms.sock, allowUIDs: [4294967294]}", 1))
	n.start(t)
	for range 100 {
		if c, err := net.Dial("unix", n.socket); err == nil {
			c.Close()
		}
	}
	n.await(t, "the last refusal", func() bool {
		_, metrics := n.get("/metrics")
		return strings.Contains(metrics, "trousseau_socket_refused_peers_total 100\n")
	})
	n.stop()
	denied := 0
	for _, l := range auditLines(t, n.path("audit.log")) {
		denied += l.Callers
	}
	if got := events(auditLines(t, n.path("audit.log"))); denied != 100 || strings.Count(got, "denied") > 2 || !strings.HasSuffix(got, " stopped") {
		t.Errorf("%d callers, lines %s", denied, got)
	}
}

func TestFullAuditLog(t *testing.T) {
	for _, policy := range []string{"block", "continue"} {
		t.Run(policy, func(t *testing.T) {
			n := newNode(t)
			dir := n.path("log")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			testserver.SmallDisk(t, dir, "size=64k")
			file := filepath.Join(dir, "audit.log")
			n.configure(t, "auditLog: {file: "+file+", whenFull: "+policy+"}\n")
			n.start(t)
			head := n.head(t)
			v2, _ := n.dial(t)
			sealed := seal(t, v2)
			fill(t, filepath.Join(dir, "filler"))

			var answered, refused int
			for range 40 { // there is room in the last page of the log
				switch err := open(t, v2, sealed); status.Code(err) {
				case codes.OK:
					answered++
				case codes.Unavailable:
					refused++
					if !strings.Contains(err.Error(), "audit log") || !strings.Contains(err.Error(), "whenFull") {
						t.Error(err)
					}
				default:
					t.Error(err)
				}
				keyID(t, v2) // the status is answered
			}
			if blocks := policy == "block"; blocks != (refused > 20) || answered+refused != 40 {
				t.Errorf("%d answered, %d refused", answered, refused)
			}
			_, metrics := n.get("/metrics")
			if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
				t.Fatal(err)
			}
			if err := open(t, v2, sealed); err != nil {
				t.Error(err)
			}
			n.stop()
			opens, lost := 0, 0
			for _, l := range auditLines(t, file) {
				if l.Event == "open" {
					opens++
				}
				lost += l.Count
			}
			if opens+lost != 41 || lost < 20 {
				t.Errorf("%d lines and %d told losses for 41 calls", opens, lost)
			}
			if want := fmt.Sprintf("trousseau_audit_log_lost_lines_total %d\n", lost); !strings.Contains(metrics, want) {
				t.Errorf("/metrics lacks %s", want)
			}
			report, err := auditlog.Verify([]string{file}, []auditlog.Mark{head})
			if err != nil || report.Verified != report.Last+1-head.Head.Seq {
				t.Errorf("%v, %+v", err, report)
			}
		})
	}
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 512))
	}
}

// A daemon that is killed while it answers leaves a log in which every answered call has its line.
func TestKilledDaemonLeavesAWholeAuditLog(t *testing.T) {
	if path := os.Getenv("TROUSSEAU_TEST_DAEMON"); path != "" {
		daemon.Run(t.Context(), daemon.Options{ConfigPath: path, Release: "test", Log: os.Stderr})
		return
	}
	n := newNode(t)
	file := n.path("audit.log")
	n.configure(t, "auditLog: {file: "+file+"}\n")
	var head *auditlog.Mark
	answered := 0
	for range 3 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledDaemonLeavesAWholeAuditLog$")
		child.Env = append(os.Environ(), "TROUSSEAU_TEST_DAEMON="+n.path("config.yaml"))
		child.Stderr = &n.log
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		n.await(t, "readiness", func() bool { code, _ := n.get("/readyz"); return code == 200 })
		if head == nil {
			exported := n.head(t)
			head = &exported
		}
		v2, _ := n.dial(t)
		var callers sync.WaitGroup
		var mu sync.Mutex
		for range 8 {
			callers.Go(func() {
				for {
					if _, err := v2.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: []byte("a seed")}); err != nil {
						return
					}
					mu.Lock()
					answered++
					mu.Unlock()
				}
			})
		}
		time.Sleep(300 * time.Millisecond)
		child.Process.Signal(syscall.SIGKILL)
		child.Wait()
		callers.Wait()
	}
	n.start(t)
	n.stop()
	wraps := 0
	for _, l := range auditLines(t, file) {
		if l.Event == "wrap" {
			wraps++
		}
	}
	if answered < 100 || wraps < answered {
		t.Errorf("%d lines for %d answered calls", wraps, answered)
	}
	wantInOrder(t, file, *head)
}

func TestBurstsOfOpens(t *testing.T) {
	n := newNode(t)
	n.configure(t, "")
	text, err := os.ReadFile(n.path("config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	n.write(t, strings.Replace(string(text), "observe: {", "observe: {opensPerMinute: 5, ", 1))
	n.start(t)
	v2, _ := n.dial(t)
	sealed := seal(t, v2)
	for range 5 {
		open(t, v2, sealed)
	}
	if strings.Contains(n.log.String(), "more opens") {
		t.Error("told of what is allowed")
	}
	for range 5 {
		open(t, v2, sealed)
	}
	if got := strings.Count(n.log.String(), "more opens"); got != 1 || !strings.Contains(n.log.String(), fmt.Sprintf("pid=%d", os.Getpid())) {
		t.Errorf("told %d times", got)
	}
	if _, metrics := n.get("/metrics"); !strings.Contains(metrics, "trousseau_open_bursts_total 1\n") {
		t.Error("not counted")
	}
}

func TestBurstsAreCountedOverTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		opened := daemon.NewBursts(100, func() { told++ })
		caller := socket.Peer{UID: 1}
		opens := func(n int) {
			for range n {
				opened(caller)
			}
		}
		for step, test := range []struct {
			pause time.Duration
			opens int
			want  int
		}{
			{0, 60, 0}, {59 * time.Second, 40, 0}, {0, 1, 1}, {time.Second, 500, 1}, {58 * time.Second, 1, 1}, {time.Second, 1, 2},
			{time.Hour, 100, 2}, {time.Minute, 100, 2}, {30 * time.Second, 1, 3},
		} {
			time.Sleep(test.pause)
			opens(test.opens)
			if told != test.want {
				t.Errorf("step %d: told %d times, want %d", step+1, told, test.want)
			}
		}
	})
}

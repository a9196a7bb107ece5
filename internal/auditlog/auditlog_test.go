package auditlog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/auditlog"
	"github.com/trousseau-io/trousseau/internal/finding"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, cfg auditlog.Config) *auditlog.Log {
	t.Helper()
	log, err := auditlog.Open(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

func config(t testing.TB) auditlog.Config {
	t.Helper()
	return auditlog.Config{Path: filepath.Join(t.TempDir(), "audit.log"), MaxSize: 64 << 20, Keep: 8}
}

func add(t testing.TB, log *auditlog.Log, n int) {
	t.Helper()
	for range n {
		if err := log.Append("open", slog.String("uid", "7f3c"), slog.String("code", "OK")); err != nil {
			t.Fatal(err)
		}
	}
}

func export(t testing.TB, log *auditlog.Log) auditlog.Mark {
	t.Helper()
	head, err := log.Export()
	if err != nil {
		t.Fatal(err)
	}
	return auditlog.Mark{Name: "head", Head: head}
}

func verify(t testing.TB, path string, marks ...auditlog.Mark) auditlog.Report {
	t.Helper()
	report, err := auditlog.Verify([]string{path}, marks)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// wantClean fails the test unless the log is in order, and n lines are proven.
func wantClean(t testing.TB, report auditlog.Report, n int) {
	t.Helper()
	if finding.Worst(report.Findings) > finding.Info || report.Verified != uint64(n) {
		t.Errorf("verified %d of %d lines, want %d: %+v", report.Verified, report.Lines, n, report.Findings)
	}
}

func rules(report auditlog.Report) string {
	var all []string
	for _, f := range report.Findings {
		if f.Severity >= finding.Warning {
			all = append(all, f.Rule+"@"+f.Where[strings.LastIndexByte(f.Where, '/')+1:])
		}
	}
	return strings.Join(all, " ")
}

func lines(t testing.TB, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.SplitAfter(string(text), "\n")
	return all[:len(all)-1]
}

func write(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLinesAreJSON(t *testing.T) {
	cfg := config(t)
	log := open(t, cfg)
	err := log.Append("wrap", slog.String("uid", "a\"\nb\xff<"), slog.Int("peer_uid", 0), slog.Bool("yes", true), slog.String("long", strings.Repeat("x", 1<<16)))
	if err != nil {
		t.Fatal(err)
	}
	var last struct {
		Seq   uint64
		Time  time.Time
		Event string
		UID   string
		Peer  *int `json:"peer_uid"`
		Yes   bool
		Long  string
		MAC   string
	}
	all := lines(t, cfg.Path)
	if err := json.Unmarshal([]byte(all[len(all)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if last.Seq != 2 || last.Event != "wrap" || last.UID != "a\"\nb\ufffd<" || last.Peer == nil || !last.Yes || len(last.MAC) != 64 {
		t.Errorf("%+v", last)
	}
	if len(last.Long) > 1100 || time.Since(last.Time) > time.Minute {
		t.Errorf("%d bytes of text, time %v", len(last.Long), last.Time)
	}
	if info, err := os.Stat(cfg.Path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestVerifiesWhatManyWrote(t *testing.T) {
	cfg := config(t)
	log := open(t, cfg)
	head := export(t, log)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { add(t, log, 20) })
	}
	all.Wait()
	later := export(t, log)
	add(t, log, 1)
	wantClean(t, verify(t, cfg.Path, head, later), 1+320+2)
	if written, lost := log.Counts(); written != 1+1+320+1+1 || lost != 0 {
		t.Errorf("%d lines, %d lost", written, lost)
	}
	log.Close()
	log = open(t, cfg)
	add(t, log, 3)
	wantClean(t, verify(t, cfg.Path, head, later), 1+320+2+3)
	wantClean(t, verify(t, cfg.Path, later), 2+3)
	if got := rules(verify(t, cfg.Path)); !strings.HasPrefix(got, "no-head@") {
		t.Errorf("without a head: %s", got)
	}
	if err := errors.Join(log.Close(), log.Append("open")); err == nil {
		t.Error("a closed log takes lines")
	}
}

func TestRotationKeepsTheChain(t *testing.T) {
	cfg := config(t)
	cfg.MaxSize, cfg.Keep = 2000, 3
	log := open(t, cfg)
	head := export(t, log)
	add(t, log, 100)
	recent := export(t, log)
	add(t, log, 5)
	report := verify(t, cfg.Path, head)
	if len(report.Files) != 4 || finding.Worst(report.Findings) != finding.Info || report.Verified != report.Lines {
		t.Errorf("%+v", report)
	}
	if got := report.Findings[0]; got.Rule != "lines-removed-by-keep" || !strings.Contains(got.What, fmt.Sprintf("2 to %d ", report.First-1)) {
		t.Errorf("%+v", got)
	}
	if got := verify(t, cfg.Path, recent); len(got.Findings) != 1 || got.Findings[0].Rule != "before-head" {
		t.Errorf("%+v", got)
	}
	if err := os.Remove(report.Files[1]); err != nil { // it was not the log that removed this one
		t.Fatal(err)
	}
	if got := rules(verify(t, cfg.Path, head)); !strings.HasPrefix(got, "lines-missing@"+filepath.Base(report.Files[2])+":1") {
		t.Errorf("a removed file in the middle: %s", got)
	}
	log.Close()
	log = open(t, cfg)
	add(t, log, 100) // the log never says that it removed these
	if got := rules(verify(t, cfg.Path, head)); !strings.HasPrefix(got, "lines-missing@") {
		t.Errorf("rotation hides a removed file: %s", got)
	}
}

func TestFileThatIsMovedAwayIsMissed(t *testing.T) {
	cfg := config(t)
	log := open(t, cfg)
	head := export(t, log)
	add(t, log, 3)
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(cfg.Path, moved); err != nil {
		t.Fatal(err)
	}
	add(t, log, 2)
	if got := rules(verify(t, cfg.Path, head)); got != "lines-missing@audit.log:1" {
		t.Error(got)
	}
	report, err := auditlog.Verify([]string{cfg.Path, moved}, []auditlog.Mark{head})
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, report, 7)
}

func TestOneWriter(t *testing.T) {
	cfg := config(t)
	open(t, cfg)
	_, err := auditlog.Open(cfg, quiet)
	if e, ok := errors.AsType[*auditlog.Error](err); !ok || e.Hint == "" {
		t.Errorf("a second one: %v", err)
	}
	cfg.Path = filepath.Join(t.TempDir(), "none", "audit.log")
	_, err = auditlog.Open(cfg, quiet)
	if e, ok := errors.AsType[*auditlog.Error](err); !ok || e.Hint == "" {
		t.Errorf("no directory: %v", err)
	}
}

func TestHeadPrintsNothingSecret(t *testing.T) {
	log := open(t, config(t))
	head := export(t, log).Head
	line := head.Encode()
	if back, err := auditlog.ParseHead(line); err != nil || back != head {
		t.Errorf("%v, %v", back, err)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "head", head, "key", head.Key)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "head", head, "key", head.Key)
	fmt.Fprintf(&out, "%v %+v %#v %s %x %d %q", head, head, head, head.Key, head.Key, head.Key, head.Key)
	json.NewEncoder(&out).Encode(head)
	secret := fmt.Sprintf("%x", [32]byte(head.Key))
	for _, spelling := range []string{secret[:8], strings.ToUpper(secret[:8]), fmt.Sprint(head.Key[0], head.Key[1], head.Key[2])} {
		if strings.Contains(out.String(), spelling) {
			t.Errorf("the key is in %s", out.String())
		}
	}
	if !bytes.Contains(line, []byte(secret)) {
		t.Error("the test does not know how the key is spelled")
	}
	for _, bad := range []string{"", "{}", strings.Replace(string(line), "tra1", "tra2", 1), string(line[:len(line)-4])} {
		if _, err := auditlog.ParseHead([]byte(bad)); err == nil || strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// BenchmarkAppend is what a line costs: mostly the wait for the disk, which callers share.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			log := open(b, config(b))
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			b.ResetTimer()
			for range callers {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						if err := log.Append("open", slog.String("uid", "7f3c"), slog.String("code", "OK")); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}

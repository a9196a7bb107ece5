package auditlog_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/auditlog"
	"github.com/trousseau-io/trousseau/internal/finding"
)

// A process that is killed leaves a state that is as old as the lines or older, and perhaps a part of a line.
func TestGoesOnAfterEveryCrash(t *testing.T) {
	cfg := config(t)
	log := open(t, cfg)
	head := export(t, log)
	states := []string{read(t, cfg.Path+".state")}
	for range 4 {
		add(t, log, 1)
		states = append(states, read(t, cfg.Path+".state"))
	}
	log.Close()
	all := lines(t, cfg.Path) // two of them before the first state
	for i, state := range states {
		for j := i; j < len(states); j++ {
			for _, part := range []int{0, 1, 100} {
				content := strings.Join(all[:2+j], "")
				if part > 0 && j+1 < len(states) {
					content += all[2+j][:part]
				}
				write(t, cfg.Path, content)
				write(t, cfg.Path+".state", state)
				log := open(t, cfg)
				add(t, log, 2)
				log.Close()
				report := verify(t, cfg.Path, head)
				if finding.Worst(report.Findings) > finding.Info || report.Verified != report.Lines-1 || report.Lines < uint64(2+j+2) {
					t.Fatalf("state of line %d, %d lines and %d bytes: %+v", 2+i, 2+j, part, report)
				}
			}
		}
		for j := range i { // somebody, or a power failure, has removed lines that the state knows of
			write(t, cfg.Path, all[:2+j]...)
			write(t, cfg.Path+".state", state)
			log := open(t, cfg)
			add(t, log, 2)
			log.Close()
			where := fmt.Sprintf("audit.log:%d", 3+j)
			report := verify(t, cfg.Path, head)
			if got := rules(report); got != "gap-noticed@"+where+" lines-missing@"+where || report.Verified != report.Lines-1 {
				t.Fatalf("state of line %d, %d lines: %+v", 2+i, 2+j, report)
			}
		}
	}
}

func TestGoesOnAfterACrashInARotation(t *testing.T) {
	cfg := config(t)
	log := open(t, cfg)
	head := export(t, log)
	add(t, log, 3)
	log.Close()
	if err := os.Rename(cfg.Path, fmt.Sprintf("%s.%020d", cfg.Path, 1)); err != nil {
		t.Fatal(err)
	}
	log = open(t, cfg)
	add(t, log, 1)
	wantClean(t, verify(t, cfg.Path, head), 6)
}

// Strange lines are told of, and what comes after them is proven.
func TestNoticesStrangeLinesAtTheStart(t *testing.T) {
	cfg := config(t)
	log := open(t, cfg)
	head := export(t, log)
	add(t, log, 2)
	log.Close()
	all := lines(t, cfg.Path)
	write(t, cfg.Path, append(all, strings.Replace(all[3], `"seq":4`, `"seq":5`, 1))...)
	log = open(t, cfg)
	add(t, log, 2)
	report := verify(t, cfg.Path, head)
	if got := rules(report); got != "line-out-of-place@audit.log:5 gap-noticed@audit.log:6" || report.Verified != 6 {
		t.Errorf("%s", got)
	}
}

// A child process writes as fast as it can until it is killed, again and again.
func TestKilledUnderLoad(t *testing.T) {
	if path := os.Getenv("TROUSSEAU_TEST_AUDIT_LOG"); path != "" {
		log := open(t, auditlog.Config{Path: path, MaxSize: 20_000, Keep: 1000})
		for range 8 {
			go func() {
				for log.Append("open") == nil {
				}
			}()
		}
		time.Sleep(time.Minute)
		return
	}
	cfg := config(t)
	log := open(t, cfg)
	head := export(t, log)
	log.Close()
	for round := range 10 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledUnderLoad$")
		child.Env = append(os.Environ(), "TROUSSEAU_TEST_AUDIT_LOG="+cfg.Path)
		before := verify(t, cfg.Path, head).Lines
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Duration(7+3*round) * time.Millisecond) {
			if report, err := auditlog.Verify([]string{cfg.Path}, []auditlog.Mark{head}); err == nil && report.Lines > before+20 {
				break
			}
		}
		child.Process.Signal(syscall.SIGKILL)
		child.Wait()
		report := verify(t, cfg.Path, head)
		if report.Lines <= before+20 {
			t.Fatalf("the child wrote %d lines", report.Lines-before)
		}
		for _, f := range report.Findings {
			if f.Severity > finding.Info && f.Rule != "line-torn" {
				t.Errorf("round %d: %+v", round, f)
			}
		}
	}
	log = open(t, cfg)
	add(t, log, 1)
	if report := verify(t, cfg.Path, head); finding.Worst(report.Findings) > finding.Info || report.Verified != report.Lines-1 {
		t.Errorf("%+v", report)
	}
}

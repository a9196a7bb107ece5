package auditlog_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/auditlog"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

func TestFullDiskLosesNoLineSilently(t *testing.T) {
	dir := t.TempDir()
	testserver.SmallDisk(t, dir, "size=64k")
	cfg := auditlog.Config{Path: filepath.Join(dir, "audit.log"), MaxSize: 1 << 20, Keep: 1}
	log := open(t, cfg)
	head := export(t, log)
	add(t, log, 3)
	filler := filepath.Join(dir, "filler")
	if f, err := os.Create(filler); err != nil {
		t.Fatal(err)
	} else {
		for err == nil {
			_, err = f.Write(make([]byte, 512))
		}
		f.Close()
	}
	calls, written := 0, 0
	for failed := 0; failed < 5; calls++ { // there is room in the last page of the log
		err := log.Append("open", slog.String("filler", strings.Repeat("x", 900)))
		if err != nil {
			failed++
		} else {
			written++
		}
	}
	if written == 0 {
		t.Fatal("no line was written before the disk was full")
	}
	log.Close() // as if killed: the count must outlive it
	log = open(t, cfg)
	if log.Append("open") == nil {
		t.Fatal("the disk is not full")
	}
	calls++
	if text := read(t, cfg.Path); !strings.HasSuffix(text, "\n") {
		t.Error("a part of a line is left behind")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	add(t, log, 2)
	calls, written = calls+2, written+2
	report := verify(t, cfg.Path, head)
	if report.Verified != report.Lines-1 || !strings.HasPrefix(rules(report), "lines-lost@") || strings.Contains(rules(report), " ") {
		t.Errorf("%+v", report)
	}
	var told int
	for _, line := range lines(t, cfg.Path) {
		if i := strings.Index(line, `"event":"lost","count":`); i >= 0 {
			fmt.Sscanf(line[i:], `"event":"lost","count":%d`, &told)
		}
	}
	if written+told != calls {
		t.Errorf("%d lines and %d told losses for %d calls", written, told, calls)
	}
}

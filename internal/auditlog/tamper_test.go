package auditlog_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/auditlog"
	"github.com/trousseau-io/trousseau/internal/finding"
)

// tampered is a log of ten lines, all after the head but the first.
type tampered struct {
	path  string
	head  auditlog.Mark
	later auditlog.Mark // of the last line
	early string        // the state when there were five lines
}

func newTampered(t *testing.T) tampered {
	t.Helper()
	cfg := config(t)
	log := open(t, cfg)
	x := tampered{path: cfg.Path, head: export(t, log)}
	add(t, log, 3)
	x.early = read(t, cfg.Path+".state")
	add(t, log, 4)
	x.later = export(t, log)
	log.Close()
	if all := lines(t, x.path); len(all) != 10 {
		t.Fatalf("%d lines", len(all))
	}
	wantClean(t, verify(t, x.path, x.head), 9)
	return x
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	x := newTampered(t)
	all := lines(t, x.path)
	for n := 1; n < len(all); n++ {
		for at := range all[n] {
			for _, flip := range []byte{0x01, 0x20, 0x80} { // 0x20 makes a capital of a letter, which other readers of JSON and hexadecimal digits take for the same
				changed := []byte(all[n])
				changed[at] ^= flip
				damaged := slices.Clone(all)
				damaged[n] = string(changed)
				write(t, x.path, damaged...)
				report := verify(t, x.path, x.head)
				if finding.Worst(report.Findings) < finding.Warning {
					t.Fatalf("line %d, byte %d (%q for %q) is not found", n+1, at, changed[at], all[n][at])
				}
				if lone := changed[at] != '\n' && all[n][at] != '\n'; lone && !strings.Contains(rules(report), fmt.Sprintf("@audit.log:%d", n+1)) {
					t.Fatalf("line %d, byte %d (%q for %q): %s", n+1, at, changed[at], all[n][at], rules(report))
				}
				if report.Verified < 6 { // without the end of a line, two are damaged
					t.Fatalf("line %d, byte %d: only %d lines verified: %s", n+1, at, report.Verified, rules(report))
				}
			}
		}
	}
}

func TestTampering(t *testing.T) {
	tests := map[string]struct {
		do   func(t *testing.T, x tampered, all []string)
		want string
	}{
		"first line removed":  {func(t *testing.T, x tampered, all []string) { write(t, x.path, all[2:]...) }, "lines-missing@audit.log:1"},
		"middle line removed": {func(t *testing.T, x tampered, all []string) { write(t, x.path, slices.Delete(all, 4, 5)...) }, "lines-missing@audit.log:5"},
		"last line removed":   {func(t *testing.T, x tampered, all []string) { write(t, x.path, all[:9]...) }, "lines-cut-off@audit.log.state"},
		"half of it removed":  {func(t *testing.T, x tampered, all []string) { write(t, x.path, all[:5]...) }, "lines-cut-off@audit.log.state"},
		"all of it removed":   {func(t *testing.T, x tampered, _ []string) { write(t, x.path) }, "lines-cut-off@audit.log.state"},
		"last line torn": {func(t *testing.T, x tampered, all []string) { os.Truncate(x.path, int64(len(strings.Join(all, ""))-9)) },
			"line-torn@audit.log:10 lines-cut-off@audit.log.state"},
		"lines swapped": {func(t *testing.T, x tampered, all []string) {
			all[4], all[5] = all[5], all[4]
			write(t, x.path, all...)
		}, "line-out-of-place@audit.log:6 lines-missing@audit.log:5"},
		"line repeated": {func(t *testing.T, x tampered, all []string) { write(t, x.path, slices.Insert(all, 7, all[4])...) }, "line-out-of-place@audit.log:8"},
		"end repeated":  {func(t *testing.T, x tampered, all []string) { write(t, x.path, append(all, all[8:]...)...) }, "line-out-of-place@audit.log:11"},
		"garbage added": {func(t *testing.T, x tampered, all []string) { write(t, x.path, slices.Insert(all, 3, "{}\n")...) }, "line-damaged@audit.log:4"},
		"one line changed": {func(t *testing.T, x tampered, all []string) {
			write(t, x.path, strings.ReplaceAll(strings.Join(all, ""), `"seq":5,"time":"2`, `"seq":5,"time":"3`))
		}, "line-changed@audit.log:5"},
		"all lines changed": {func(t *testing.T, x tampered, all []string) {
			write(t, x.path, strings.ReplaceAll(strings.Join(all, ""), "OK", "NO"))
		}, "line-changed@audit.log:3"},
		"impossible number": {func(t *testing.T, x tampered, all []string) {
			write(t, x.path, strings.Replace(strings.Join(all, ""), `"seq":10,`, `"seq":18446744073709551615,`, 1))
		}, "line-changed@audit.log:10"},
		"state removed":     {func(t *testing.T, x tampered, _ []string) { os.Remove(x.path + ".state") }, "state-missing@audit.log.state"},
		"state damaged":     {func(t *testing.T, x tampered, _ []string) { write(t, x.path+".state", "{}") }, "state-damaged@audit.log.state"},
		"state rolled back": {func(t *testing.T, x tampered, _ []string) { write(t, x.path+".state", x.early) }, ""}, // as after a crash
		"state of another": {func(t *testing.T, x tampered, _ []string) {
			write(t, x.path+".state", read(t, newTampered(t).path+".state"))
		}, "state-does-not-fit@audit.log.state"},
		"cut and made up": {makeUpState, "state-does-not-fit@audit.log.state"},
		"forged before":   {forgeBefore, "line-changed@audit.log:4"},
		"restarted":       {restart, "chain-restarted@audit.log:11"},
		"cut, and rolled back": {func(t *testing.T, x tampered, all []string) {
			write(t, x.path, all[:5]...)
			write(t, x.path+".state", x.early)
		}, ""}, // only a later head tells, see below
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			x := newTampered(t)
			test.do(t, x, lines(t, x.path))
			if got := rules(verify(t, x.path, x.head)); got != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}

// makeUpState cuts off the end and makes the state fit as well as somebody can who knows the last key only.
func makeUpState(t *testing.T, x tampered, all []string) {
	write(t, x.path, all[:5]...)
	state := read(t, x.path+".state")
	last, _, _ := strings.Cut(all[4][strings.Index(all[4], `"mac":"`)+7:], `"`)
	was, _, _ := strings.Cut(state[strings.Index(state, `"mac":"`)+7:], `"`)
	write(t, x.path+".state", strings.NewReplacer(`"seq":11`, `"seq":6`, was, last).Replace(state))
}

// forgeBefore changes a line and makes its code with the key that the machine still has.
func forgeBefore(t *testing.T, x tampered, all []string) {
	head, err := auditlog.ParseHead([]byte(read(t, x.path+".state")))
	if err != nil {
		t.Fatal(err)
	}
	all[3] = forge(t, head, all[2], strings.Replace(all[3], "OK", "NO", 1))
	write(t, x.path, all...)
}

// forge returns line with a code made with the key of head, behind the line before.
func forge(t *testing.T, head auditlog.Head, before, line string) string {
	t.Helper()
	var prev struct{ MAC string }
	if err := json.Unmarshal([]byte(before), &prev); err != nil {
		t.Fatal(err)
	}
	body := line[:strings.Index(line, `,"mac"`)]
	mac := hmac.New(sha256.New, head.Key[:])
	raw, _ := hex.DecodeString(prev.MAC)
	mac.Write(raw)
	mac.Write([]byte(body))
	return fmt.Sprintf("%s,\"mac\":\"%x\"}\n", body, mac.Sum(nil))
}

// restart has the daemon start a chain of its own because its state is gone.
func restart(t *testing.T, x tampered, _ []string) {
	os.Remove(x.path + ".state")
	log := open(t, auditlog.Config{Path: x.path, MaxSize: 1 << 20, Keep: 1})
	add(t, log, 3)
}

func TestLaterHead(t *testing.T) {
	x := newTampered(t)
	all := lines(t, x.path)
	wantClean(t, verify(t, x.path, x.later, x.head), 9)
	write(t, x.path, all[:5]...)
	write(t, x.path+".state", x.early)
	if got := rules(verify(t, x.path, x.head, x.later)); got != "lines-cut-off@head" {
		t.Errorf("cut, and rolled back: %s", got)
	}

	// Who held an earlier key makes all lines from there to the later head anew, and cannot make them arrive at it.
	head, err := auditlog.ParseHead([]byte(x.early))
	if err != nil {
		t.Fatal(err)
	}
	for n := 5; n < 9; n++ {
		all[n] = forge(t, head, all[n-1], strings.Replace(all[n], "OK", "NO", 1))
		head.Key = sha256.Sum256([]byte("\x08tra1 key" + string(head.Key[:])))
	}
	write(t, x.path, all[:9]...)
	os.Remove(x.path + ".state")
	if got := rules(verify(t, x.path, x.head)); got != "state-missing@audit.log.state" {
		t.Fatalf("the forgery is not good enough for this test: %s", got)
	}
	if got := rules(verify(t, x.path, x.head, x.later)); got != "state-missing@audit.log.state head-does-not-fit@head" {
		t.Errorf("forged: %s", got)
	}
}

// What the log says of files that it has removed itself is believed only where it is proven.
func TestRetentionIsNoExcuse(t *testing.T) {
	cfg := config(t)
	cfg.MaxSize, cfg.Keep = 1000, 2
	log := open(t, cfg)
	head := export(t, log)
	add(t, log, 40)
	log.Close()
	report := verify(t, cfg.Path, head)
	if rules(report) != "" || len(report.Files) != 3 {
		t.Fatalf("%+v", report)
	}
	oldest := report.Files[0]
	all := lines(t, oldest)
	after := regexp.MustCompile(`"after":"[0-9a-f]{64}",`)
	tests := map[string]struct {
		lines []string
		want  string
	}{
		"bound to nothing":   {append([]string{after.ReplaceAllString(all[0], "")}, all[1:]...), "line-changed@" + filepath.Base(oldest) + ":1"},
		"bound to another":   {append([]string{strings.Replace(all[0], `"after":"`, `"after":"0`, 1)}, all[1:]...), "line-damaged@" + filepath.Base(oldest) + ":1"},
		"made to look so":    {[]string{strings.Replace(all[2], `"event":"open","uid":"7f3c"`, `"event":"file-started","removed":99999`, 1), all[3]}, "lines-missing@" + filepath.Base(oldest) + ":1"},
		"first line removed": {all[1:], "lines-missing@" + filepath.Base(oldest) + ":1"},
	}
	for name, test := range tests {
		write(t, oldest, test.lines...)
		if got := rules(verify(t, cfg.Path, head)); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: found %q, want %q", name, got, test.want)
		}
	}
}

func TestHeadOfAnotherLog(t *testing.T) {
	x, y := newTampered(t), newTampered(t)
	if got := rules(verify(t, x.path, y.head)); got != "line-changed@audit.log:2 state-does-not-fit@audit.log.state" {
		t.Error(got)
	}
	if got := rules(verify(t, x.path, x.head, y.later)); !strings.HasPrefix(got, "head-does-not-fit@head") {
		t.Error(got)
	}
}

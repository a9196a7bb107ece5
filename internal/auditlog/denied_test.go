package auditlog_test

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trousseau-io/trousseau/internal/auditlog"
)

func TestDeniedCallersShareLines(t *testing.T) {
	cfg := config(t)
	synctest.Test(t, func(t *testing.T) {
		log := open(t, cfg)
		denied := auditlog.NewDenied(log)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { denied.Run(ctx) })
		seen := 0
		// wantNew fails the test unless there are these lines since it was last asked.
		wantNew := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			all := deniedLines(t, cfg.Path)
			if got := strings.Join(all[seen:], " "); got != strings.Join(want, " ") {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
			seen = len(all)
		}
		denied.Add(1000, 7)
		wantNew("the first", "1000:1")
		for range 100_000 {
			denied.Add(1000, 8)
		}
		denied.Add(33, 9)
		wantNew("many, and another one", "33:1")
		time.Sleep(time.Minute)
		wantNew("after a minute", "1000:100000")
		time.Sleep(2 * time.Minute)
		wantNew("nothing")
		denied.Add(1000, 7)
		wantNew("the first after a silence", "1000:1")
		time.Sleep(2 * time.Minute)
		for uid := range uint32(10_000) {
			denied.Add(uid, 1)
		}
		synctest.Wait()
		if n := len(deniedLines(t, cfg.Path)) - seen; n > 65 {
			t.Errorf("%d lines at once", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		all := deniedLines(t, cfg.Path)
		sum := 0
		for _, line := range all[seen:] {
			_, count, _ := strings.Cut(line, ":")
			n, _ := strconv.Atoi(count)
			sum += n
		}
		if n := len(all) - seen; n > 2*65 || sum != 10_000 || !strings.Contains(strings.Join(all[seen:], " "), "others:") {
			t.Errorf("%d lines about %d callers", n, sum)
		}
		denied.Add(5, 1)
		cancel()
		running.Wait()
		all = deniedLines(t, cfg.Path)
		if last := all[len(all)-1]; last != "5:1" {
			t.Errorf("the last line is %s", last)
		}
		log.Close()
	})
}

var deniedFields = regexp.MustCompile(`"event":"denied","(?:peer_uid":|peers":")(\w+).*"callers":(\d+)`)

// deniedLines returns uid:count of each line about denied callers.
func deniedLines(t *testing.T, path string) (all []string) {
	t.Helper()
	for _, m := range deniedFields.FindAllStringSubmatch(read(t, path), -1) {
		all = append(all, m[1]+":"+m[2])
	}
	return all
}

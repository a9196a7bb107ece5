package lab_test

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"
)

// outcome is what becomes of a cluster while something is broken. Two things are the same in all of them: an API server that
// runs goes on to read what it has opened, and to write for as long as TestOutageFailClosed has measured.
type outcome struct {
	status  bool // Status stays good
	started bool // a restarted daemon has a good Status
	cold    bool // a restarted API server reads and writes
}

var (
	unharmed   = outcome{status: true, started: true, cold: true}
	noNewStart = outcome{status: true, started: true} // all is well until an API server restarts
	closed     = outcome{}
)

// fault is something that breaks, and what comes of it over each policy that it is tried with.
type fault struct {
	name   string
	breaks func(t *testing.T, b *bench) (repair func())
	want   map[string]outcome // by name of the policy
}

// Names of policies.
const all, atLeast, one = "all", "atLeast", "one"

var policies = map[string]string{
	all:     "{keys: [bao, disk, aws], need: 2}",
	atLeast: "{keys: [bao, disk, aws], need: 2, write: {atLeast: 2}}",
	one:     "{keys: [bao]}",
}

// faults is the table in docs/operate/outages.md.
var faults = []fault{
	{"one key service down", vaultDown, map[string]outcome{all: noNewStart, atLeast: unharmed, one: closed}},
	{"two of three down", twoDown, map[string]outcome{all: closed}},
	{"all down", allDown, map[string]outcome{all: closed}},
	{"slow beyond 3 s", vaultSlow, map[string]outcome{all: noNewStart, atLeast: unharmed, one: closed}},
	{"answering garbage", vaultGarbles, map[string]outcome{all: noNewStart, atLeast: unharmed, one: closed}},
	{"certificate expired", certificateExpired, map[string]outcome{all: noNewStart, atLeast: unharmed, one: closed}},
	{"token revoked", tokenRevoked, map[string]outcome{all: noNewStart, atLeast: unharmed, one: closed}},
	{"DNS gone", nameGone, map[string]outcome{all: noNewStart, atLeast: unharmed, one: closed}},
	{"disk full", diskFull, map[string]outcome{all: unharmed, one: unharmed}},
	{"clock an hour behind", clockBehind, map[string]outcome{all: noNewStart, one: closed}},
	{"daemon killed in a call", killedInACall, map[string]outcome{all: noNewStart, one: closed}},
}

// TestOutages breaks one thing after the other under a cluster, and restarts daemon and API server while it is broken. What
// was written before and meanwhile is there in the end.
func TestOutages(t *testing.T) {
	t.Parallel()
	for policy := range policies {
		tried := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
			_, is := f.want[policy]
			return !is
		})
		for some := range slices.Chunk(tried, 6) { // a cluster for each chunk, so that all are done within minutes
			t.Run(policy, func(t *testing.T) {
				t.Parallel()
				b := startBench(t, policy)
				for _, f := range some {
					b.outage(t, f)
				}
				b.apiServer.Restart()
				eventually(t, retryPoll+slack, func() error { return cmp.Or(b.c.Ready(t.Context()), b.reads(t.Context())) })
			})
		}
	}
}

// outage breaks something, observes, repairs it and waits until all is well.
func (b *bench) outage(t *testing.T, f fault) {
	t.Helper()
	b.d.Restart() // and forget which keys were missing
	eventually(t, slack, b.full)
	eventually(t, retryPoll+slack, func() error { return b.w.tryWrite(t) })

	want := f.want[b.policy]
	repair := f.breaks(t, b)
	time.Sleep(3 * time.Second) // it has probed
	b.wantStatus(t, f, "after it", want.status)
	b.goesOn(t, f)
	b.d.Kill()
	b.d.Start()
	took := b.wantStatus(t, f, "after a restart of the daemon", want.started)
	t.Logf("%-24s a restarted daemon had the status that was expected after %s", f.name, took.Round(time.Second))
	b.goesOn(t, f)
	b.apiServer.Restart()
	b.wantCold(t, f, want.cold)
	b.wantStatus(t, f, "after a restart of the API server", want.started)

	repair()
	back := eventually(t, time.Minute, func() error { return b.works(t) })
	t.Logf("%-24s reads and writes were back %s after the repair", f.name, back.Round(time.Second))
}

// wantStatus waits until the status is as it should be, and returns how long that took.
func (b *bench) wantStatus(t *testing.T, f fault, when string, good bool) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		_, err := b.d.status(t.Context())
		if (err == nil) == good {
			return time.Since(began)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%s, %s: the status is %v, want good: %t", f.name, when, err, good)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// goesOn fails the test unless the API server, which has not restarted, reads and writes.
func (b *bench) goesOn(t *testing.T, f fault) {
	t.Helper()
	if err := b.reads(t.Context()); err != nil {
		t.Errorf("%s: a running API server does not read: %v", f.name, err)
	}
	if err := b.w.tryWrite(t); err != nil {
		t.Errorf("%s: a running API server does not write: %v", f.name, err)
	}
}

// wantCold fails the test unless an API server that has just started reads and writes, or neither.
func (b *bench) wantCold(t *testing.T, f fault, works bool) {
	t.Helper()
	if works {
		eventually(t, retryPoll+slack, func() error { return b.works(t) })
		return
	}
	time.Sleep(retryPoll + 2*time.Second) // it has asked the daemon twice
	if err := b.w.tryWrite(t); err == nil {
		t.Errorf("%s: a restarted API server writes", f.name)
	}
	if err := readSecret(t.Context(), b.c, b.w.acked[0], plaintext); err == nil {
		t.Errorf("%s: a restarted API server reads", f.name)
	}
}

// works returns an error unless the API server reads everything and writes.
func (b *bench) works(t *testing.T) error {
	if err := b.reads(t.Context()); err != nil {
		return err
	}
	return b.w.tryWrite(t)
}

func (b *bench) reads(ctx context.Context) error {
	for _, name := range b.w.acked {
		if err := readSecret(ctx, b.c, name, plaintext); err != nil {
			return err
		}
	}
	return nil
}

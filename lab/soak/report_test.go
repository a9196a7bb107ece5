package soak_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// row is what callers saw of one event.
type row struct {
	name               string
	decrypts, encrypts calls         // while it lasted
	again              time.Duration // from its begin until the last Decrypt that failed meanwhile
	full               time.Duration // from the repair until every key works
	answered           time.Duration // from the repair until the last call that failed
}

// table collects rows by name.
type table struct {
	rows map[string][]row
}

func (t *table) add(r row) {
	if t.rows == nil {
		t.rows = make(map[string][]row)
	}
	t.rows[r.name] = append(t.rows[r.name], r)
}

// text is the table in Markdown. Times are the longest of all events of a kind.
func (t *table) text() string {
	var b strings.Builder
	b.WriteString("| what | times | Decrypts | failed | slowest that did not | Decrypts again after | Encrypts | failed | " +
		"after the repair: all keys work | last failed call |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(t.rows)) {
		var sum row
		for _, r := range t.rows[name] {
			sum.decrypts.made += r.decrypts.made
			sum.decrypts.failed += r.decrypts.failed
			sum.decrypts.slowest = max(sum.decrypts.slowest, r.decrypts.slowest)
			sum.encrypts.made += r.encrypts.made
			sum.encrypts.failed += r.encrypts.failed
			sum.again, sum.full, sum.answered = max(sum.again, r.again), max(sum.full, r.full), max(sum.answered, r.answered)
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %s | %s | %d | %d | %s | %s |\n", name, len(t.rows[name]), sum.decrypts.made, sum.decrypts.failed,
			short(sum.decrypts.slowest), short(sum.again), sum.encrypts.made, sum.encrypts.failed, short(sum.full), short(sum.answered))
	}
	return b.String()
}

// short is a duration in a table; what did not happen took none.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// memory is what the daemon's process used, at moments when all was well.
type memory struct {
	pid     int
	samples []sample // of this process
}

type sample struct {
	rss        float64 // in MiB
	goroutines float64
}

func (m *memory) sample(t *testing.T, d *daemon) {
	t.Helper()
	if d.PID() != m.pid {
		*m = memory{pid: d.PID()}
	}
	m.samples = append(m.samples, sample{d.gauge(t, "process_resident_memory_bytes") / (1 << 20), d.gauge(t, "go_goroutines")})
}

// thirds returns the medians over the first and the last third of the samples of the last process.
func (m *memory) thirds() (first, last sample) {
	median := func(samples []sample) (s sample) {
		pick := func(of func(sample) float64) float64 {
			values := make([]float64, 0, len(samples))
			for _, s := range samples {
				values = append(values, of(s))
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		return sample{pick(func(s sample) float64 { return s.rss }), pick(func(s sample) float64 { return s.goroutines })}
	}
	third := max(1, len(m.samples)/3)
	return median(m.samples[:third]), median(m.samples[len(m.samples)-third:])
}

func (m *memory) text() string {
	first, last := m.thirds()
	return fmt.Sprintf("the last process, %d samples: resident %.1f MiB in the first third, %.1f MiB in the last; %.0f and %.0f goroutines",
		len(m.samples), first.rss, last.rss, first.goroutines, last.goroutines)
}

// judge fails the test if the last process has grown: by more than a tenth in memory, or by more than a quarter in goroutines,
// most of which belong to connections that faults end and callers make anew. A few samples say nothing.
func (m *memory) judge(t *testing.T) {
	t.Helper()
	if len(m.samples) < 12 {
		return
	}
	if first, last := m.thirds(); last.rss > 1.1*first.rss || last.goroutines > 1.25*first.goroutines {
		t.Errorf("the daemon has grown: %s", m.text())
	}
}

package envelope

import (
	"sync"
	"time"
)

const (
	// firstPatience is how long a key of which nothing is known may take before another one is asked as well.
	firstPatience = 50 * time.Millisecond
	// leastPatience keeps a fast key's usual scatter from doubling the number of calls.
	leastPatience = 2 * time.Millisecond
	// forget is the time in which what is known of a key loses half of its weight: a key that was slow or failed is given
	// another chance.
	forget = 30 * time.Second
)

// latency is what is known of how long a key takes to open a share: a mean and a mean deviation, as TCP keeps them of round
// trips (RFC 6298).
type latency struct {
	mu              sync.Mutex
	mean, deviation time.Duration // zero before the first answer
	at              time.Time     // of the last answer
	failed          time.Time     // the last failure; zero since the last answer
}

// answered notes an answer.
func (l *latency) answered(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mean == 0 {
		l.mean, l.deviation = took, took/2
	} else {
		l.deviation += ((took - l.mean).Abs() - l.deviation) / 4
		l.mean += (took - l.mean) / 8
	}
	l.at, l.failed = time.Now(), time.Time{}
}

// late notes a call that was given up after that time, because others were faster: it would have taken longer.
func (l *latency) late(after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if after > l.mean {
		l.mean += (after - l.mean) / 8
		l.at = time.Now()
	}
}

func (l *latency) failedNow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = time.Now()
}

// failedLately reports whether the last call failed, and not long ago.
func (l *latency) failedLately() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.failed.IsZero() && time.Since(l.failed) < forget
}

// expected returns how long the key will probably take.
func (l *latency) expected() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mean >> min(time.Since(l.at)/forget, 62)
}

// patience returns how long to wait for the key before another one is asked as well.
func (l *latency) patience() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mean == 0 {
		return firstPatience
	}
	return max(l.mean+4*l.deviation, leastPatience)
}

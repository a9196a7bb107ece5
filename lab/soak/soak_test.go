// Package soak_test runs the daemon under load for a long time while its key services break at random, and the daemon
// itself is reloaded, restarted and killed.
//
// What it holds against the daemon: no wrong answer, nothing lost of what was ever sealed, no failed Decrypt while two of
// three keys work, and memory and goroutines that do not grow. It needs no API server, so that the load is the daemon's own.
package soak_test

import (
	"cmp"
	"context"
	"flag"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/kmsclient"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

var (
	duration = flag.Duration("duration", 30*time.Second, "how long to break things")
	seed     = flag.Uint64("seed", 0, "repeats the faults of the run that printed it; 0 draws one")
)

const (
	decrypters = 6
	encrypters = 2
	pause      = 10 * time.Millisecond // of each caller between two calls: what breaks shares the machine
)

// soak is a run.
type soak struct {
	*testing.T
	random   *rand.Rand
	services []service
	daemon   *daemon
	client   *kmsclient.Client
	load     *load
	table    table
	memory   memory
}

func TestSoak(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d, for %s", *seed, *duration)
	services, entries := startServices(t)
	s := &soak{T: t, random: rand.New(rand.NewPCG(*seed, 0)), services: services, daemon: startDaemon(t, entries), load: &load{}}
	client, err := kmsclient.Dial(kmsclient.Options{Socket: s.daemon.socket})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s.client = client

	ctx, stop := context.WithCancel(t.Context())
	callers := s.call(ctx)
	began := time.Now()
	for left := *duration; left > 0; left = *duration - time.Since(began) {
		s.event(left > *duration*2/3)
		s.memory.sample(t, s.daemon)
	}
	stop()
	callers()

	s.daemon.fullAgain(t)
	sealed, lost := s.load.openAll(t.Context(), client)
	t.Logf("%d seeds were sealed, %d of them do not open in the end\n\n%s\n%s", sealed, len(lost), s.table.text(), s.memory.text())
	if len(lost) > 0 {
		t.Errorf("%d seeds are lost, for instance: %v", len(lost), lost[0])
	}
	if len(s.load.wrong) > 0 {
		t.Errorf("%d wrong answers, for instance %s", len(s.load.wrong), s.load.wrong[0])
	}
	s.memory.judge(t)
}

// call starts the callers; end waits until they have ended.
func (s *soak) call(ctx context.Context) (end func()) {
	done := make(chan struct{})
	for i := range decrypters + encrypters {
		random := rand.New(rand.NewPCG(*seed, uint64(i)+1))
		go func() {
			defer func() { done <- struct{}{} }()
			if i < encrypters {
				s.load.encrypt(ctx, s.client, random, pause)
			} else {
				s.load.decrypt(ctx, s.client, random, pause)
			}
		}()
	}
	return func() {
		for range decrypters + encrypters {
			<-done
		}
	}
}

// event lets one thing happen, or two at once. The process of the daemon changes only while that is allowed, so that the
// rest of the run is one long life whose memory can be compared.
func (s *soak) event(mayRestart bool) {
	switch n := s.random.IntN(10); {
	case n == 0 && mayRestart:
		s.happen("daemon restarted", 0, func() func() { s.daemon.Restart(); return nil })
	case n == 1 && mayRestart:
		s.happen("daemon killed", 0, func() func() { s.daemon.Kill(); s.daemon.Start(); return nil })
	case n == 2:
		s.happen("daemon reloaded", 0, func() func() { s.daemon.Signal(syscall.SIGHUP); return nil })
	case n < 5:
		first := s.random.IntN(len(s.services))
		second := (first + 1 + s.random.IntN(len(s.services)-1)) % len(s.services)
		_, break1 := s.fault(s.services[first])
		_, break2 := s.fault(s.services[second])
		s.happen("two services at once", 2, func() func() {
			repair1, repair2 := break1(), break2()
			return func() { repair1(); repair2() }
		})
	default:
		name, breaks := s.fault(s.services[s.random.IntN(len(s.services))])
		s.happen(name, 1, breaks)
	}
}

// fault draws what happens to a service. The real one is killed half of the times.
func (s *soak) fault(service service) (name string, breaks func() (repair func())) {
	faults := []struct {
		name  string
		fault testserver.Fault
	}{
		{"hangs", testserver.Stall}, {"slow (4 s)", testserver.Slow}, {"garbage", testserver.Garble},
		{"connections reset", testserver.Cut}, {"throttled", testserver.Throttle},
	}
	if service.vault != nil && s.random.IntN(2) == 0 {
		return "killed", func() func() { service.vault.Kill(); return service.vault.Start }
	}
	f := faults[s.random.IntN(len(faults))]
	return f.name, func() func() { return service.faults.Set(f.fault) }
}

// happen breaks something that takes away so many services, keeps it broken for a few seconds, repairs it, waits until all is
// well, and notes what callers saw.
func (s *soak) happen(name string, down int, breaks func() (repair func())) {
	held := 3*time.Second + time.Duration(s.random.IntN(4000))*time.Millisecond
	s.load.since()
	began := time.Now()
	repair := breaks()
	time.Sleep(time.Until(began.Add(held)))
	encrypts, decrypts := s.load.since()
	row := row{name: name, decrypts: decrypts, encrypts: encrypts}
	if decrypts.failed > 0 {
		row.again = decrypts.lastFailure.Sub(began)
	}
	if repair != nil {
		repair()
	}
	repaired := time.Now()
	row.full = s.daemon.fullAgain(s.T)
	time.Sleep(4 * time.Second) // longer than a call may take that began before the repair
	lateEncrypts, late := s.load.since()
	for _, c := range []calls{lateEncrypts, late} {
		if c.failed > 0 {
			row.answered = max(row.answered, c.lastFailure.Sub(repaired))
		}
	}
	s.table.add(row)
	if failed := decrypts.failed + late.failed; down == 1 && failed > 0 {
		s.Errorf("%s, %s: %d Decrypts failed while two of three services worked: %v", began.Format(time.TimeOnly), name, failed,
			cmp.Or(decrypts.err, late.err))
	}
}

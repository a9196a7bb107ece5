package seedstore_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trousseau-io/trousseau/internal/seedstore"
)

func open(t *testing.T, places int) *seedstore.Store {
	t.Helper()
	s, err := seedstore.New(places, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func seed(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func TestASeedIsKeptForItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 4)
		id := seedstore.ID{1}
		if s.Get(id) != nil {
			t.Error("kept what was never given")
		}
		given := seed(1)
		s.Put(id, given)
		clear(given)
		time.Sleep(59 * time.Second)
		if !bytes.Equal(s.Get(id), seed(1)) {
			t.Error("not kept for a minute")
		}
		s.Put(id, seed(2)) // again: another minute
		time.Sleep(59 * time.Second)
		if !bytes.Equal(s.Get(id), seed(2)) {
			t.Error("not kept for a minute after it was given again")
		}
		time.Sleep(2 * time.Second)
		if s.Get(id) != nil || len(s.All()) != 0 {
			t.Error("kept for more than a minute")
		}
	})
}

// TestTheTimerWipes looks at the memory itself: nobody asks after the seed.
func TestTheTimerWipes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 4)
		for n := range byte(4) {
			s.Put(seedstore.ID{n}, seed(n+1))
			time.Sleep(10 * time.Second)
		}
		until := 21 * time.Second // the first one has ended, and the second has not
		for want := 4; want >= 0; want-- {
			synctest.Wait()
			if got := s.Occupied(); got != want {
				t.Errorf("%d places are not wiped, want %d", got, want)
			}
			time.Sleep(until)
			until = 10 * time.Second
		}
	})
}

func TestTheOldestGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 2)
		for n := range byte(3) {
			s.Put(seedstore.ID{n}, seed(n+1))
			time.Sleep(time.Second)
		}
		if s.Get(seedstore.ID{0}) != nil || !bytes.Equal(s.Get(seedstore.ID{1}), seed(2)) || !bytes.Equal(s.Get(seedstore.ID{2}), seed(3)) {
			t.Error("not the oldest one gave way")
		}
		all := s.All()
		if len(all) != 2 || all[0].ID != (seedstore.ID{1}) || !bytes.Equal(all[1].Seed, seed(3)) {
			t.Errorf("%v", all)
		}
	})
}

func TestForgetAndClose(t *testing.T) {
	s := open(t, 2)
	s.Put(seedstore.ID{1}, seed(1))
	s.Forget()
	if s.Get(seedstore.ID{1}) != nil || s.Occupied() != 0 {
		t.Error("not forgotten")
	}
	s.Put(seedstore.ID{1}, seed(1))
	if s.Get(seedstore.ID{1}) == nil {
		t.Error("keeps nothing any more")
	}
	s.Close()
	s.Put(seedstore.ID{2}, seed(2))
	if s.Get(seedstore.ID{1}) != nil || s.Get(seedstore.ID{2}) != nil {
		t.Error("keeps something after Close")
	}
}

func TestWhatIsNotKept(t *testing.T) {
	s := open(t, 1)
	long := make([]byte, seedstore.MaxSeed+1)
	rand.Read(long)
	s.Put(seedstore.ID{1}, long)
	s.Put(seedstore.ID{2}, nil)
	s.Restore(seedstore.Kept{ID: seedstore.ID{3}, Until: time.Now().Add(-time.Second), Seed: seed(3)})
	if all := s.All(); len(all) != 0 {
		t.Errorf("%v", all)
	}
}

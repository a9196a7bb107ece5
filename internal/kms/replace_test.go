package kms_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/kms"
)

func TestReplaceIsRefusedIfItWouldStopSealing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := keyservicetest.NewFake(time.Now()), keyservicetest.NewFake(time.Now())
		bad.Fail(keyservice.Denied)
		s := start(t, setup(t, good))
		keyID := s.keyID(t)
		next := kms.Setup{Ring: ring(t, policy(t, 0, "bad", bad), policy(t, 0, "fake", good)), ProbeInterval: time.Second}
		if err := s.plugin.Replace(t.Context(), next); keyservice.KindOf(err) != keyservice.Denied {
			t.Errorf("replacing: %v", err)
		}
		if s.keyID(t) != keyID {
			t.Error("the key id changed")
		}
		good.Fail(keyservice.Unavailable)
		time.Sleep(31 * time.Second)
		if err := s.plugin.Replace(t.Context(), next); err != nil {
			t.Errorf("neither works, the operator's newest should be taken: %v", err)
		}
	})
}

func TestReplaceWaitsForCallsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := keyservicetest.NewFake(time.Now()), keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, old))
		sealed := s.encrypt(t)
		old.Break(keyservicetest.Fault{Stall: 2 * time.Second, Ops: []string{"unwrap"}})
		opened := make(chan error)
		go func() { opened <- s.decrypt(t, sealed) }()
		synctest.Wait()
		began := time.Now()
		config := kms.Setup{Ring: ring(t, policy(t, 0, "next", next), policy(t, 0, "fake", old)), ProbeInterval: 30 * time.Second}
		if err := s.plugin.Replace(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("replaced after %v, while a call used the old keys", took)
		}
		if err := <-opened; err != nil {
			t.Error(err)
		}
		if err := s.decrypt(t, sealed); err != nil {
			t.Errorf("what the old policy sealed: %v", err)
		}
		if s.keyID(t) == sealed.KeyId {
			t.Error("the key id did not change with the policy")
		}
	})
}

// A reload in the middle of an activation delay must not announce the new version early, nor the old one late.
func TestReplaceKeepsWhatIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Time{}) // undated: adopted after three sightings
		s := start(t, setup(t, fake))
		fake.Rotate(time.Time{})
		time.Sleep(2 * time.Minute)
		renewed := s.keyID(t)
		if err := s.plugin.Replace(t.Context(), setup(t, fake)); err != nil {
			t.Fatal(err)
		}
		if s.keyID(t) != renewed {
			t.Error("a reload brought the old key id back")
		}
	})
}

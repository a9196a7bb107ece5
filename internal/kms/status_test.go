package kms_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/kms"
)

func TestStatusIsAnsweredFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		before := fake.Calls("")
		for range 1000 {
			s.keyID(t)
		}
		if calls := fake.Calls("") - before; calls != 0 {
			t.Errorf("1000 calls of Status made %d calls to the key service", calls)
		}
		time.Sleep(10*time.Minute + time.Second)
		if calls := fake.Calls("") - before; calls != 3*20 {
			t.Errorf("probing for 10 minutes took %d calls, want 3 each 30 s", calls)
		}
	})
}

func TestStatusWaitsForTheFirstProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		fake.Break(keyservicetest.Fault{Stall: time.Second})
		s := start(t, setup(t, fake))
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := s.Status(short, &kmsv2.StatusRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("before the first probe ended: %v", err)
		}
		s.keyID(t)
	})
}

func TestRotationIsAdoptedAfterTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		old := s.encrypt(t)
		fake.Rotate(time.Now())
		time.Sleep(119 * time.Second)
		if got := s.encrypt(t).KeyId; got != old.KeyId || s.keyID(t) != old.KeyId {
			t.Errorf("key id changed before the delay: %q to %q", old.KeyId, got)
		}
		fresh := start(t, setup(t, fake))
		if fresh.keyID(t) != old.KeyId {
			t.Error("a daemon that has just started announces another key id than one that runs")
		}
		time.Sleep(32 * time.Second)
		renewed := s.encrypt(t)
		if renewed.KeyId == old.KeyId || s.keyID(t) != renewed.KeyId || fresh.keyID(t) != renewed.KeyId {
			t.Errorf("after the delay: %q, announced %q, by another daemon %q", renewed.KeyId, s.keyID(t), fresh.keyID(t))
		}
		for name, sealed := range map[string]*kmsv2.EncryptResponse{"old": old, "new": renewed} {
			if err := s.decrypt(t, sealed); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestOutagePolicies(t *testing.T) {
	const never = -1
	tests := []struct {
		name   string
		outage kms.Outage
		kinds  []keyservice.Kind
		fails  time.Duration // Status fails this long after the outage began, or never
	}{
		{"fail-closed", kms.OutageFailClosed, keyservice.Kinds(), 0},
		{"grace in an outage", kms.OutageGrace, []keyservice.Kind{keyservice.Unavailable, keyservice.Throttled}, 30 * time.Minute},
		{"grace and a decision", kms.OutageGrace, []keyservice.Kind{keyservice.Denied, keyservice.Disabled, keyservice.NotFound, keyservice.Corrupt}, 0},
		{"fail-open in an outage", kms.OutageFailOpen, []keyservice.Kind{keyservice.Unavailable, keyservice.Throttled}, never},
		{"fail-open and a decision", kms.OutageFailOpen, []keyservice.Kind{keyservice.Denied, keyservice.Disabled, keyservice.NotFound, keyservice.Corrupt}, 0},
	}
	for _, test := range tests {
		for _, kind := range test.kinds {
			t.Run(test.name+"/"+kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fake := keyservicetest.NewFake(time.Now())
					config := setup(t, fake)
					config.Outage, config.Grace = test.outage, 30*time.Minute
					s := start(t, config)
					keyID := s.keyID(t)
					fake.Fail(kind)
					time.Sleep(31 * time.Second) // the next probe notices
					if test.fails != 0 {
						s.wantStatus(t, codes.OK)
						time.Sleep(29 * time.Minute)
						s.wantStatus(t, codes.OK)
						time.Sleep(2 * time.Minute)
					}
					if test.fails == never {
						s.wantStatus(t, codes.OK)
					} else if _, err := s.Status(t.Context(), &kmsv2.StatusRequest{}); err == nil {
						t.Error("status still answers")
					}
					fake.Break(keyservicetest.Fault{})
					time.Sleep(6 * time.Second)
					if s.keyID(t) != keyID {
						t.Error("another key id after the outage")
					}
				})
			})
		}
	}
}

// A failed call has its key probed at once instead of after the interval.
// TestAKeyThatIsTooSlowDoesNotWork has every call take longer than API servers wait.
func TestAKeyThatIsTooSlowDoesNotWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		fake.Break(keyservicetest.Fault{Stall: 2 * time.Second})
		time.Sleep(time.Minute)
		s.wantStatus(t, codes.OK)
		fake.Break(keyservicetest.Fault{Stall: 4 * time.Second})
		time.Sleep(time.Minute)
		s.wantStatus(t, codes.Unavailable)
	})
}

func TestFailedCallClosesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		time.Sleep(5 * time.Second)
		fake.Fail(keyservice.Denied)
		s.wantStatus(t, codes.OK)
		if _, err := s.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: bytes.Clone(seed)}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("encrypting: %v", err)
		}
		time.Sleep(1100 * time.Millisecond)
		s.wantStatus(t, codes.PermissionDenied)
	})
}

func TestOutageIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		before := len(s.log.lines())
		fake.Fail(keyservice.Unavailable)
		for range 600 {
			time.Sleep(time.Second)
			s.Status(t.Context(), &kmsv2.StatusRequest{})
		}
		if lines := s.log.lines()[before:]; len(lines) != 1 || !strings.Contains(lines[0], "key does not work") {
			t.Errorf("10 minutes of outage, logged:\n%s", strings.Join(lines, "\n"))
		}
	})
}

func TestKeyMadeAgainIsNotAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		config := setup(t, fake)
		s := start(t, config)
		old := s.keyID(t)
		time.Sleep(time.Hour)
		again := fake.Recreate(time.Now())
		time.Sleep(time.Hour)
		s.wantStatus(t, codes.NotFound)
		_, err := s.Status(t.Context(), &kmsv2.StatusRequest{})
		if !strings.Contains(err.Error(), "keys[].version") {
			t.Errorf("the way out is not in: %v", err)
		}
		config.Pins = map[string]keyservice.VersionID{"fake": again.ID}
		if err := s.plugin.Replace(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if s.keyID(t) == old {
			t.Error("other material under the old key id")
		}
	})
}

func TestNewVersionThatDoesNotWorkIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		old := s.keyID(t)
		bad := fake.Rotate(time.Now())
		fake.SetState(bad.ID, keyservice.StateDisabled)
		time.Sleep(10 * time.Minute)
		if s.keyID(t) != old {
			t.Error("a disabled version was adopted")
		}
		fake.SetState(bad.ID, keyservice.StateEnabled)
		time.Sleep(time.Minute)
		if s.keyID(t) == old {
			t.Error("the version was not adopted when it was enabled")
		}
	})
}

func TestLaggingReplicaDoesNotBringAnOldKeyIDBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		time.Sleep(time.Minute)
		v2 := fake.Rotate(time.Now())
		time.Sleep(5 * time.Minute)
		renewed := s.keyID(t)
		fake.Break(keyservicetest.Fault{Forget: []keyservice.VersionID{v2.ID}, Ops: []string{"versions"}})
		time.Sleep(5 * time.Minute)
		if s.keyID(t) != renewed {
			t.Error("the key id went back")
		}
		fake.Break(keyservicetest.Fault{Forget: []keyservice.VersionID{v2.ID}})
		time.Sleep(time.Minute)
		s.wantStatus(t, codes.NotFound)
	})
}

func TestOpeningOnlyKeyIsProbedWithWhatItOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, current := keyservicetest.NewFake(time.Now()), keyservicetest.NewFake(time.Now())
		former := policy(t, 0, "old", old)
		version, _, err := old.Versions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e, err := former.Seal(t.Context(), []keyservice.VersionID{version.ID}, seed)
		if err != nil {
			t.Fatal(err)
		}
		ciphertext, _, _ := e.Marshal(0)
		sealed := &kmsv2.EncryptResponse{Ciphertext: ciphertext, KeyId: former.KeyID(e.Versions())}

		s := start(t, kms.Setup{Ring: ring(t, policy(t, 0, "new", current), former), ProbeInterval: 30 * time.Second})
		if err := s.decrypt(t, sealed); err != nil {
			t.Fatal(err)
		}
		before := old.Calls("wrap")
		old.Fail(keyservice.Denied, "unwrap")
		time.Sleep(31 * time.Second)
		snapshot := s.plugin.Snapshot()
		if snapshot.State != kms.Full || snapshot.Err != nil || s.keyID(t) == sealed.KeyId {
			t.Errorf("an old key in trouble changed the state: %+v", snapshot)
		}
		if key := snapshot.Keys[1]; key.ID != "old" || key.Seals || keyservice.KindOf(key.Err) != keyservice.Denied {
			t.Errorf("the old key is %+v", key)
		}
		if old.Calls("wrap") != before {
			t.Error("a key that only opens was asked to wrap")
		}
	})
}

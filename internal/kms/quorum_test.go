package kms_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/kms"
)

// twoOfThree is a setup that seals with at least so many of three fakes, two of which open.
func twoOfThree(t *testing.T, atLeast int) (kms.Setup, []*keyservicetest.Fake) {
	t.Helper()
	fakes := []*keyservicetest.Fake{keyservicetest.NewFake(time.Now()), keyservicetest.NewFake(time.Now()), keyservicetest.NewFake(time.Now())}
	return twoOf(t, atLeast, fakes), fakes
}

// twoOf is the same of given fakes.
func twoOf(t *testing.T, atLeast int, fakes []*keyservicetest.Fake) kms.Setup {
	t.Helper()
	var members []envelope.Member
	for i, fake := range fakes {
		members = append(members, envelope.Member{ID: fmt.Sprint("key-", i), Key: fake})
	}
	p, err := envelope.NewPolicy(prod, 0, 2, members...)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.AtLeast(atLeast); err != nil {
		t.Fatal(err)
	}
	return kms.Setup{Ring: ring(t, p), ProbeInterval: 30 * time.Second, ActivationDelay: 2 * time.Minute}
}

// TestAKeyThatComesAndGoesChangesNothing flaps one of three keys for 20 minutes while nobody has anything sealed.
func TestAKeyThatComesAndGoesChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, atLeast := range []int{2, 3} {
			setup, fakes := twoOfThree(t, atLeast)
			s := start(t, setup)
			sealed := s.encrypt(t)
			for range 20 {
				fakes[1].Fail(keyservice.Unavailable)
				time.Sleep(30 * time.Second)
				if s.keyID(t) != sealed.KeyId {
					t.Fatal("another key id")
				}
				if err := s.decrypt(t, sealed); err != nil {
					t.Fatal(err)
				}
				fakes[1].Break(keyservicetest.Fault{})
				time.Sleep(30 * time.Second)
			}
			if s.keyID(t) != sealed.KeyId || s.encrypt(t).KeyId != sealed.KeyId {
				t.Error("another key id after that")
			}
		}
	})
}

// TestSealingWithoutAKeyChangesTheKeyID follows the key id from the first Encrypt that could not be made in full, through the
// return of the key, to ten minutes after it.
func TestSealingWithoutAKeyChangesTheKeyID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		setup, fakes := twoOfThree(t, 2)
		s := start(t, setup)
		full := s.encrypt(t)
		fakes[2].Fail(keyservice.Unavailable)
		time.Sleep(time.Minute)
		if s.keyID(t) != full.KeyId {
			t.Error("a missing key alone changed the key id")
		}
		fewer := s.encrypt(t)
		if fewer.KeyId == full.KeyId || s.keyID(t) != fewer.KeyId {
			t.Errorf("sealed in full under %q, with fewer under %q, announced %q", full.KeyId, fewer.KeyId, s.keyID(t))
		}
		if snapshot := s.plugin.Snapshot(); snapshot.State != kms.Readable || !snapshot.Keys[2].Missing || snapshot.Keys[0].Missing {
			t.Errorf("%+v", snapshot)
		}
		fakes[2].Break(keyservicetest.Fault{})
		time.Sleep(9 * time.Minute)
		if again := s.encrypt(t); again.KeyId != fewer.KeyId || s.keyID(t) != fewer.KeyId {
			t.Error("the key takes part again too soon")
		}
		time.Sleep(2 * time.Minute)
		if again := s.encrypt(t); again.KeyId != full.KeyId || s.keyID(t) != full.KeyId {
			t.Errorf("sealed under %q again, announced %q, want %q", again.KeyId, s.keyID(t), full.KeyId)
		}
		for _, sealed := range []*kmsv2.EncryptResponse{full, fewer} {
			if err := s.decrypt(t, sealed); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWritingInFullNeedsAllKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		setup, fakes := twoOfThree(t, 3)
		s := start(t, setup)
		sealed := s.encrypt(t)
		fakes[0].Fail(keyservice.Unavailable)
		time.Sleep(time.Minute)
		if _, err := s.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: []byte("seed")}); status.Code(err) != codes.Unavailable {
			t.Errorf("sealed without a key that has to take part: %v", err)
		}
		s.wantStatus(t, codes.OK)
		if err := s.decrypt(t, sealed); err != nil {
			t.Error(err)
		}
		fakes[1].Fail(keyservice.Unavailable)
		time.Sleep(time.Minute)
		s.wantStatus(t, codes.Unavailable)
		if err := s.decrypt(t, sealed); status.Code(err) != codes.Unavailable {
			t.Errorf("opened with one of two keys: %v", err)
		}
	})
}

// TestStartWhileAKeyIsSilent starts a daemon while one of three keys is away, or denied. With a note of what was announced before, it
// announces that; without, it waits, or seals without the key if it may.
func TestStartWhileAKeyIsSilent(t *testing.T) {
	for name, test := range map[string]struct {
		atLeast int
		kind    keyservice.Kind
		hint    bool
		same    bool
		code    codes.Code
	}{
		"known, all have to seal":         {3, keyservice.Unavailable, true, true, codes.OK},
		"known and denied, all have to":   {3, keyservice.Denied, true, true, codes.OK},
		"unknown, all have to seal":       {3, keyservice.Unavailable, false, false, codes.Unavailable},
		"unknown and denied, all have to": {3, keyservice.Denied, false, false, codes.PermissionDenied},
		"known, two seal":                 {2, keyservice.Unavailable, true, true, codes.OK},
		"unknown, two seal":               {2, keyservice.Unavailable, false, false, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			hint := kms.Hint{}
			if test.hint {
				hint.Path = filepath.Join(t.TempDir(), "announced.json")
			}
			synctest.Test(t, func(t *testing.T) {
				setup, fakes := twoOfThree(t, test.atLeast)
				setup.Hint = hint
				sealed := start(t, setup).encrypt(t)
				fakes[1].Fail(test.kind)
				s := start(t, setup)
				time.Sleep(time.Minute)
				s.wantStatus(t, test.code)
				if err := s.decrypt(t, sealed); err != nil {
					t.Error(err)
				}
				if test.code == codes.OK && (s.keyID(t) == sealed.KeyId) != test.same {
					t.Errorf("announces %q, before it was %q", s.keyID(t), sealed.KeyId)
				}
				fakes[1].Break(keyservicetest.Fault{})
				time.Sleep(11 * time.Minute)
				if s.keyID(t) != sealed.KeyId {
					t.Error("another key id when all keys have answered for long")
				}
			})
		})
	}
}

// TestAPolicyThatCannotSealIsNotTaken reloads a policy of three keys, one of which has never answered, into a daemon that works.
func TestAPolicyThatCannotSealIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, setup(t, keyservicetest.NewFake(time.Now())))
		before := s.keyID(t)
		several, fakes := twoOfThree(t, 3)
		fakes[2].Fail(keyservice.Unavailable)
		if err := s.plugin.Replace(t.Context(), several); keyservice.KindOf(err) != keyservice.Unavailable {
			t.Errorf("taken: %v", err)
		}
		if s.keyID(t) != before {
			t.Error("another key id")
		}
		fakes[2].Break(keyservicetest.Fault{})
		if err := s.plugin.Replace(t.Context(), several); err != nil {
			t.Error(err)
		}
		if s.keyID(t) == before {
			t.Error("the same key id under another policy")
		}
	})
}

// TestAllSilentAtFirst starts a daemon before its network: keys that come up one by one within some seconds all take part.
func TestAllSilentAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		setup, fakes := twoOfThree(t, 2)
		for _, fake := range fakes {
			fake.Fail(keyservice.Unavailable)
		}
		s := start(t, setup)
		s.wantStatus(t, codes.Unavailable)
		for _, fake := range fakes {
			fake.Break(keyservicetest.Fault{})
			time.Sleep(4 * time.Second)
		}
		time.Sleep(5 * time.Second)
		for _, key := range s.plugin.Snapshot().Keys {
			if key.Missing {
				t.Errorf("%s is missing", key.ID)
			}
		}
		s.wantStatus(t, codes.OK)
	})
}

func TestWrongAnswersAreCountedAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		setup, fakes := twoOfThree(t, 3)
		s := start(t, setup)
		sealed := s.encrypt(t)
		fakes[0].Break(keyservicetest.Fault{Damage: true, Ops: []string{"unwrap"}})
		if err := s.decrypt(t, sealed); err != nil {
			t.Fatal(err)
		}
		if key := s.plugin.Snapshot().Keys[0]; key.Wrong != 1 {
			t.Errorf("%+v", key)
		}
		time.Sleep(2 * time.Second) // the probe that this asks for
		if key := s.plugin.Snapshot().Keys[0]; keyservice.KindOf(key.Err) != keyservice.Corrupt {
			t.Errorf("%+v", key)
		}
		s.wantStatus(t, codes.OK)
	})
}

// TestEqualOpensShareOneCall opens one envelope from 64 callers at once, one of which leaves.
func TestEqualOpensShareOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		sealed, other := s.encrypt(t), s.encrypt(t)
		before := fake.Calls("unwrap")
		fake.Break(keyservicetest.Fault{Stall: time.Second, Ops: []string{"unwrap"}})
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := s.Decrypt(ctx, &kmsv2.DecryptRequest{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyId})
			if status.Code(err) != codes.Canceled {
				t.Errorf("the caller that left got %v", err)
			}
		})
		for range 63 {
			wg.Go(func() {
				if err := s.decrypt(t, sealed); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			if err := s.decrypt(t, other); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		leave()
		wg.Wait()
		if calls := fake.Calls("unwrap") - before; calls != 2 {
			t.Errorf("%d calls for two envelopes", calls)
		}
		if err := s.decrypt(t, sealed); err != nil {
			t.Error(err)
		}
		if calls := fake.Calls("unwrap") - before; calls != 3 {
			t.Error("what was opened before was remembered")
		}
	})
}

// TestNobodyWaits leaves a call that all its callers have left.
func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		s := start(t, setup(t, fake))
		sealed := s.encrypt(t)
		fake.Break(keyservicetest.Fault{Stall: time.Hour, Ops: []string{"unwrap"}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		_, err := s.Decrypt(ctx, &kmsv2.DecryptRequest{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyId})
		if status.Code(err) != codes.DeadlineExceeded || time.Since(begun) > 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		fake.Break(keyservicetest.Fault{})
		if err := s.decrypt(t, sealed); err != nil {
			t.Error(err)
		}
	})
}

func TestAKeyThatOnlyWrapsTakesPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opens, wraps := keyservicetest.NewFake(time.Now()), keyservicetest.NewFake(time.Now())
		wraps.Fail(keyservice.Invalid, "unwrap")
		p, err := envelope.NewPolicy(prod, 0, 1,
			envelope.Member{ID: "a", Key: opens}, envelope.Member{ID: "b", Key: wraps, WrapOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, kms.Setup{Ring: ring(t, p), ProbeInterval: 30 * time.Second})
		sealed := s.encrypt(t)
		if err := s.decrypt(t, sealed); err != nil {
			t.Error(err)
		}
		if wraps.Calls("unwrap") != 0 || wraps.Calls("wrap") == 0 {
			t.Errorf("%d calls to unwrap, %d to wrap", wraps.Calls("unwrap"), wraps.Calls("wrap"))
		}
		opens.Fail(keyservice.Unavailable)
		time.Sleep(31 * time.Second)
		s.wantStatus(t, codes.Unavailable)
	})
}

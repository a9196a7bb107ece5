package kms_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/trousseau-io/trousseau/internal/coldstart"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/kms"
	"github.com/trousseau-io/trousseau/internal/seedstore"
)

// node is what of a daemon outlives it: its folder and the key that seals what it keeps there.
type node struct {
	dir     string
	disk    *keyservicetest.Fake
	keys    []*keyservicetest.Fake
	notices []kms.Notice
}

const coldLife = 4 * time.Hour

func newNode(t *testing.T) *node {
	t.Helper()
	_, fakes := twoOfThree(t, 3)
	return &node{dir: t.TempDir(), disk: keyservicetest.NewFake(time.Now()), keys: fakes}
}

// setup is of 2 of 3 keys, all of which have to take part in a write, with everything kept for a cold start.
func (n *node) setup(t *testing.T) kms.Setup {
	t.Helper()
	setup := twoOf(t, 3, n.keys)
	setup.Outage, setup.Grace = kms.OutageGrace, time.Hour
	setup.Hint.Path = filepath.Join(n.dir, "announced.json")
	store, err := coldstart.Open(t.Context(), coldstart.Config{Dir: n.dir, Key: n.disk, Cluster: prod.String(), Life: coldLife, Seeds: 100}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	setup.ColdStart = store
	setup.Notice = func(notice kms.Notice) { n.notices = append(n.notices, notice) }
	return setup
}

func (n *node) fail(kind keyservice.Kind) {
	for _, key := range n.keys {
		key.Fail(kind)
	}
}

func (n *node) repair() {
	for _, key := range n.keys {
		key.Break(keyservicetest.Fault{})
	}
}

func (n *node) has(name string) bool {
	_, err := os.Lstat(filepath.Join(n.dir, name))
	return err == nil
}

func (n *node) told(event kms.Event) bool {
	return slices.ContainsFunc(n.notices, func(notice kms.Notice) bool { return notice.Event == event })
}

func (s *services) tryEncrypt(t *testing.T, plaintext []byte) (*kmsv2.EncryptResponse, error) {
	t.Helper()
	return s.Encrypt(t.Context(), &kmsv2.EncryptRequest{Plaintext: bytes.Clone(plaintext)})
}

// TestAnAPIServerStartsInAnOutage takes all key services away. What an API server asks at its start, it gets once: the seeds that it
// needs opened, and one new one sealed under the same policy.
func TestAnAPIServerStartsInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := start(t, n.setup(t))
		before := s.encrypt(t)
		time.Sleep(time.Minute)
		if s.plugin.Snapshot().Spare.IsZero() {
			t.Error("no spare root is shown")
		}
		n.fail(keyservice.Unavailable)
		time.Sleep(time.Minute)

		if s.keyID(t) != before.KeyId {
			t.Error("another key id")
		}
		if err := s.decrypt(t, before); err != nil {
			t.Errorf("a kept seed: %v", err)
		}
		during := s.encrypt(t)
		if during.KeyId != before.KeyId || len(during.Ciphertext) != len(before.Ciphertext) {
			t.Error("it was sealed under another policy")
		}
		if n.has(coldstart.SpareName) || !s.plugin.Snapshot().Spare.IsZero() {
			t.Error("the spare root is still there")
		}
		if _, err := s.tryEncrypt(t, seed); status.Code(err) != codes.Unavailable {
			t.Errorf("sealed a second time: %v", err)
		}
		if err := s.decrypt(t, during); err != nil {
			t.Errorf("what was sealed in the outage: %v", err)
		}
		if !n.told(kms.ColdStartWrap) || !n.told(kms.ColdStartOpen) {
			t.Errorf("the audit log was told of %v", n.notices)
		}

		n.repair()
		time.Sleep(time.Minute)
		if s.plugin.Snapshot().Spare.IsZero() {
			t.Error("no new spare root")
		}
		for _, sealed := range []*kmsv2.EncryptResponse{before, during} {
			if err := s.decrypt(t, sealed); err != nil {
				t.Error(err)
			}
		}
		if s.keyID(t) != before.KeyId {
			t.Error("another key id after the outage")
		}
	})
}

// TestADaemonStartsInAnOutage restarts it while all key services are away: after a reboot nothing is in memory.
func TestADaemonStartsInAnOutage(t *testing.T) {
	for name, test := range map[string]struct {
		away time.Duration // before the restart
		code codes.Code
	}{
		"soon": {10 * time.Minute, codes.OK},
		"late": {coldLife + time.Minute, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				s := start(t, n.setup(t))
				before := s.encrypt(t)
				time.Sleep(time.Minute)
				n.fail(keyservice.Unavailable)
				s.stop()
				time.Sleep(test.away)
				for range 2 { // the second one knows no more than the first
					s = start(t, n.setup(t))
					s.wantStatus(t, test.code)
					if err := s.decrypt(t, before); status.Code(err) != test.code {
						t.Errorf("opening: %v", err)
					}
					s.stop()
				}
				s = start(t, n.setup(t))
				during, err := s.tryEncrypt(t, seed)
				if status.Code(err) != test.code {
					t.Fatalf("sealing: %v", err)
				}
				if err != nil {
					return
				}
				s.stop()
				s = start(t, n.setup(t)) // the root is used up, and what is announced is still known
				s.wantStatus(t, codes.OK)
				if _, err := s.tryEncrypt(t, seed); status.Code(err) != codes.Unavailable {
					t.Errorf("sealed a second time: %v", err)
				}
				if err := s.decrypt(t, during); err != nil {
					t.Errorf("what was sealed in the outage: %v", err)
				}
				time.Sleep(coldLife)
				s.stop()
				s = start(t, n.setup(t))
				s.wantStatus(t, codes.Unavailable)
				if err := s.decrypt(t, during); status.Code(err) != codes.Unavailable {
					t.Errorf("its time is over: %v", err)
				}
				n.repair()
				time.Sleep(time.Minute)
				for _, sealed := range []*kmsv2.EncryptResponse{before, during} {
					if err := s.decrypt(t, sealed); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestNothingKeptGoesAroundADecision denies the keys, or one of them: that is no outage.
func TestNothingKeptGoesAroundADecision(t *testing.T) {
	for _, kind := range []keyservice.Kind{keyservice.Denied, keyservice.Disabled, keyservice.NotFound, keyservice.Corrupt} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t)
			s := start(t, n.setup(t))
			sealed := s.encrypt(t)
			time.Sleep(time.Minute)
			n.fail(keyservice.Unavailable)
			n.keys[0].Fail(kind)
			time.Sleep(time.Minute)
			if _, err := s.tryEncrypt(t, seed); err == nil {
				t.Errorf("%s: sealed", kind)
			}
			if err := s.decrypt(t, sealed); err == nil {
				t.Errorf("%s: opened", kind)
			}
			if !n.has(coldstart.SpareName) {
				t.Errorf("%s: the spare root was used", kind)
			}
			if _, err := s.Status(t.Context(), &kmsv2.StatusRequest{}); err == nil {
				t.Errorf("%s: the status is good", kind)
			}
		})
	}
}

// TestASpareServesAWriteThatNeedsAllKeys takes one of three away: reads go on, and a write in full needs the spare root.
func TestASpareServesAWriteThatNeedsAllKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := start(t, n.setup(t))
		before := s.encrypt(t)
		time.Sleep(time.Minute)
		n.keys[1].Fail(keyservice.Unavailable)
		time.Sleep(time.Minute)
		during := s.encrypt(t)
		if during.KeyId != before.KeyId || n.has(coldstart.SpareName) {
			t.Error("it was not sealed with the spare root")
		}
		if err := s.decrypt(t, during); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if n.has(coldstart.SpareName) {
			t.Error("a spare root was prepared without a key")
		}
	})
}

// TestASpareIsOfWhatIsAnnounced rotates a key: the spare root of the version before must not be used.
func TestASpareIsOfWhatIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := start(t, n.setup(t))
		before := s.encrypt(t)
		time.Sleep(time.Minute)
		n.keys[0].Rotate(time.Now())
		time.Sleep(2*time.Minute + 40*time.Second)
		if s.keyID(t) == before.KeyId {
			t.Fatal("not rotated")
		}
		n.fail(keyservice.Unavailable)
		time.Sleep(time.Minute)
		during := s.encrypt(t)
		n.repair()
		if err := s.decrypt(t, during); err != nil || during.KeyId == before.KeyId {
			t.Errorf("sealed under %q, before it was %q: %v", during.KeyId, before.KeyId, err)
		}
	})
}

func TestForgettingKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		setup := n.setup(t)
		setup.Cache = newCache(t)
		s := start(t, setup)
		sealed := s.encrypt(t)
		time.Sleep(time.Minute)
		if err := s.plugin.Forget(); err != nil {
			t.Fatal(err)
		}
		if err := s.decrypt(t, sealed); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n.has(coldstart.SpareName) || n.has(coldstart.SeedsName) || len(setup.Cache.All()) > 0 {
			t.Error("something is kept")
		}
		n.fail(keyservice.Unavailable)
		time.Sleep(time.Minute)
		if err := s.decrypt(t, sealed); status.Code(err) != codes.Unavailable {
			t.Errorf("opened what was forgotten: %v", err)
		}
		n.repair()
		s.plugin.Resume()
		time.Sleep(time.Minute)
		if !n.has(coldstart.SpareName) {
			t.Error("nothing is kept after that")
		}
	})
}

func newCache(t *testing.T) *seedstore.Store {
	t.Helper()
	cache, err := seedstore.New(10, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// TestCacheSavesCalls opens one value again and again.
func TestCacheSavesCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := keyservicetest.NewFake(time.Now())
		cached := setup(t, fake)
		cached.Cache = newCache(t)
		s := start(t, cached)
		sealed := s.encrypt(t)
		open := func() (calls int) {
			before := fake.Calls("unwrap")
			if err := s.decrypt(t, sealed); err != nil {
				t.Fatal(err)
			}
			return fake.Calls("unwrap") - before
		}
		if calls := open(); calls != 0 {
			t.Errorf("%d calls for what was just sealed", calls)
		}
		time.Sleep(11*time.Minute + 10*time.Second) // between two probes
		if first, second := open(), open(); first != 1 || second != 0 {
			t.Errorf("%d and %d calls when its time was over", first, second)
		}
		sealed.KeyId = "t1.other"
		if err := s.decrypt(t, sealed); err == nil {
			t.Error("opened under another key id")
		}
	})
}

// TestWhatIsKeptIsForListedPolicies reloads a configuration without the policy that sealed.
func TestWhatIsKeptIsForListedPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := start(t, n.setup(t))
		sealed := s.encrypt(t)
		time.Sleep(time.Minute)
		other := n.setup(t)
		other.Ring = ring(t, policy(t, 7, "other", keyservicetest.NewFake(time.Now())))
		other.Cache = newCache(t)
		if err := s.plugin.Replace(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if err := s.decrypt(t, sealed); status.Code(err) != codes.InvalidArgument {
			t.Errorf("opened under a policy that is not listed: %v", err)
		}
		if err := s.plugin.Replace(t.Context(), n.setup(t)); err != nil {
			t.Fatal(err)
		}
		n.fail(keyservice.Unavailable)
		time.Sleep(time.Minute)
		if err := s.decrypt(t, sealed); err != nil {
			t.Errorf("a kept seed after two reloads: %v", err)
		}
		var ids []string
		for _, notice := range n.notices {
			if notice.Event == kms.KeyIDChanged {
				ids = append(ids, fmt.Sprint(notice.Previous, ">", notice.KeyID))
			}
		}
		if len(ids) != 3 || ids[0] != ">"+sealed.KeyId {
			t.Errorf("key ids changed: %q", ids)
		}
	})
}

package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// quorum is a policy of several fakes, by slot.
type quorum struct {
	*envelope.Policy
	fakes []*keyservicetest.Fake
}

func newQuorum(t testing.TB, need, n int) quorum {
	t.Helper()
	var q quorum
	var members []envelope.Member
	for i := range n {
		q.fakes = append(q.fakes, keyservicetest.NewFake(time.Now()))
		members = append(members, envelope.Member{ID: fmt.Sprint("key-", i), Key: q.fakes[i]})
	}
	p, err := envelope.NewPolicy(prod, 0, need, members...)
	if err != nil {
		t.Fatal(err)
	}
	q.Policy = p
	return q
}

func (q quorum) versions(t testing.TB) (versions []keyservice.VersionID) {
	t.Helper()
	for _, f := range q.fakes {
		v, _, err := f.Versions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, v.ID)
	}
	return versions
}

func (q quorum) seal(t testing.TB, plaintext string) *envelope.Envelope {
	t.Helper()
	e, err := q.Seal(t.Context(), q.versions(t), []byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// only lets the keys of a set, a bit for each slot, work, and breaks the others.
func (q quorum) only(set uint, fault keyservicetest.Fault) {
	for slot, f := range q.fakes {
		if set&(1<<slot) != 0 {
			f.Break(keyservicetest.Fault{})
		} else {
			f.Break(fault)
		}
	}
}

// TestEverySetOfKeys goes through every policy up to 5 of 8 and every set of its keys: k or more open, fewer give nothing,
// whether the others are away or answer garbage; and those that answer garbage are named.
func TestEverySetOfKeys(t *testing.T) {
	away := keyservicetest.Fault{Err: &keyservice.Error{Kind: keyservice.Unavailable, Op: "asking the fake"}}
	garbage := keyservicetest.Fault{Damage: true, Ops: []string{"unwrap"}}
	for n := 1; n <= envelope.MaxKeys; n++ {
		for need := 1; need <= min(n, 5); need++ {
			q := newQuorum(t, need, n)
			ring := ring(t, q.Policy)
			var mu sync.Mutex
			blamed := make(map[string]bool)
			ring.Blame = func(id string, _ error) {
				mu.Lock()
				defer mu.Unlock()
				blamed[id] = true
			}
			e := q.seal(t, "secret")
			for set := range uint(1 << n) {
				enough := bits.OnesCount(set) >= need
				for name, fault := range map[string]keyservicetest.Fault{"away": away, "garbage": garbage} {
					clear(blamed)
					q.only(set, fault)
					got, err := ring.Open(t.Context(), e, q.KeyID(e.Versions()))
					if enough != (err == nil) || (enough && string(got) != "secret") || (!enough && got != nil) {
						t.Fatalf("%d of %d, keys %b work, the others are %s: %q, %v", need, n, set, name, got, err)
					}
					for id := range blamed {
						if slot := id[len(id)-1] - '0'; name == "away" || set&(1<<slot) != 0 {
							t.Fatalf("%d of %d, keys %b work, the others are %s: %s is blamed", need, n, set, name, id)
						}
					}
				}
			}
		}
	}
}

// TestGarbageIsNamed wants the blame for a key that is asked first.
func TestGarbageIsNamed(t *testing.T) {
	for _, need := range []int{1, 2} {
		q := newQuorum(t, need, 3)
		ring, blamed := ring(t, q.Policy), make(chan string, 3)
		ring.Blame = func(id string, err error) { blamed <- id + " " + keyservice.KindOf(err).String() }
		e := q.seal(t, "secret")
		q.only(0b110, keyservicetest.Fault{Damage: true})
		if _, err := ring.Open(t.Context(), e, ""); err != nil {
			t.Fatal(err)
		}
		if got := <-blamed; got != "key-0 corrupt" {
			t.Errorf("need %d: blamed %s", need, got)
		}
	}
}

// TestOneShareLessSaysNothing splits two roots many times: whatever the root, one share less than are needed is as good as
// random, so the two cannot be told apart by it.
func TestOneShareLessSaysNothing(t *testing.T) {
	const splits, need = 20_000, 3
	for _, root := range [][]byte{make([]byte, 32), bytes.Repeat([]byte{0xff}, 32)} {
		var seen [2][256]int
		for range splits {
			shares := envelope.Split(root, need, need)
			for slot := range seen {
				for _, b := range shares[slot][:4] {
					seen[slot][b]++
				}
			}
			if got := envelope.Join(shares[:need-1]); bytes.Equal(got, root) {
				t.Fatal("two of three shares rebuild the root")
			}
			if got := envelope.Join(shares); !bytes.Equal(got, root) {
				t.Fatalf("three shares give %x", got)
			}
		}
		for slot := range seen {
			for b, count := range seen[slot] {
				// 312 are expected; 7 standard deviations are exceeded once in a billion runs.
				if count < 188 || count > 437 {
					t.Errorf("byte %#x of share %d came %d times of %d", b, slot, count, 4*splits)
				}
			}
		}
	}
}

// TestForgeries are what who writes to etcd and may use one of three keys can try.
func TestForgeries(t *testing.T) {
	q := newQuorum(t, 2, 3)
	ring := ring(t, q.Policy)
	genuine := q.seal(t, "secret")
	one, err := envelope.NewPolicy(prod, 0, 1, q.Members()[0])
	if err != nil {
		t.Fatal(err)
	}
	alone := seal(t, one, "forged")
	oneOfThree, err := envelope.NewPolicy(prod, 0, 1, q.Members()...)
	if err != nil {
		t.Fatal(err)
	}
	lower, err := oneOfThree.Seal(t.Context(), q.versions(t), []byte("forged"))
	if err != nil {
		t.Fatal(err)
	}
	change := func(e *envelope.Envelope, change func(*envelope.Envelope)) *envelope.Envelope {
		copied := *e
		copied.Shares = slices.Clone(e.Shares)
		change(&copied)
		return &copied
	}
	for name, e := range map[string]*envelope.Envelope{
		"1 of 1 under a configured key": alone,
		"1 of 1 that claims the policy": change(alone, func(e *envelope.Envelope) { e.PolicyTag = genuine.PolicyTag }),
		"1 of 3 with the same keys":     lower,
		"1 of 3 that claims the policy": change(lower, func(e *envelope.Envelope) { e.PolicyTag, e.Need = genuine.PolicyTag, 2 }),
		"k lowered":                     change(genuine, func(e *envelope.Envelope) { e.Need = 1 }),
		"n lowered":                     change(genuine, func(e *envelope.Envelope) { e.Keys, e.Shares = 2, e.Shares[:2] }),
		"a share of another envelope":   change(genuine, func(e *envelope.Envelope) { e.Shares[0] = q.seal(t, "other").Shares[0] }),
		"a share in another slot": change(genuine, func(e *envelope.Envelope) {
			e.Shares[0].Wrapped, e.Shares[1].Wrapped = e.Shares[1].Wrapped, e.Shares[0].Wrapped
		}),
		"a share taken out":                     change(genuine, func(e *envelope.Envelope) { e.Shares = e.Shares[1:] }),
		"a digest changed":                      change(genuine, func(e *envelope.Envelope) { e.Shares[2].Digest[0]++ }),
		"the seal of another":                   change(genuine, func(e *envelope.Envelope) { e.Seal = q.seal(t, "other").Seal }),
		"another cluster":                       change(genuine, func(e *envelope.Envelope) { e.ClusterTag[0]++ }),
		"two policies' worth of shares swapped": change(q.seal(t, "a"), func(e *envelope.Envelope) { e.Shares = genuine.Shares }),
	} {
		if parsed, err := envelope.Parse(encode(t, e)); err == nil {
			if got, err := ring.Open(t.Context(), parsed, ""); err == nil || got != nil {
				t.Errorf("%s opens: %q", name, got)
			}
		}
	}
	repeated := change(genuine, func(e *envelope.Envelope) { e.Shares[1] = e.Shares[0] })
	if _, err := envelope.Parse(encode(t, repeated)); !errors.Is(err, envelope.ErrMalformed) {
		t.Errorf("a slot that repeats: %v", err)
	}
	old, err := envelope.NewPolicy(prod, 7, 2, q.Members()...)
	if err != nil {
		t.Fatal(err)
	}
	e, err := old.Seal(t.Context(), q.versions(t), []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Open(t.Context(), e, ""); !errors.Is(err, envelope.ErrPolicy) {
		t.Errorf("another generation: %v", err)
	}
}

func encode(t *testing.T, e *envelope.Envelope) (ciphertext, spilled []byte) {
	t.Helper()
	ciphertext, spilled, err := e.Marshal(1024)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext, spilled
}

// TestEveryByteOfAQuorum changes each byte of a 2 of 3. One of the three shares, but for its length, may be anything that
// the seal still covers.
func TestEveryByteOfAQuorum(t *testing.T) {
	q := newQuorum(t, 2, 3)
	ring := ring(t, q.Policy)
	ciphertext, _ := encode(t, q.seal(t, strings.Repeat("s", 32)))
	for i := range ciphertext {
		flipped := slices.Clone(ciphertext)
		flipped[i] ^= 0x20
		e, err := envelope.Parse(flipped, nil)
		if err == nil {
			_, err = ring.Open(t.Context(), e, "")
		}
		if err == nil {
			t.Errorf("opened with byte %d changed", i)
		}
	}
}

func TestWritingWithKeysMissing(t *testing.T) {
	q := newQuorum(t, 2, 4)
	all := q.versions(t)
	q.fakes[1].Fail(keyservice.Denied)
	q.fakes[3].Fail(keyservice.Denied)
	if _, err := q.Seal(t.Context(), all, []byte("secret")); keyservice.KindOf(err) != keyservice.Denied {
		t.Errorf("sealed without two of four keys: %v", err)
	}
	p, err := q.AtLeast(2)
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.Seal(t.Context(), all, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(all)
	want[1], want[3] = "", ""
	if got := e.Versions(); !slices.Equal(got, want) {
		t.Errorf("versions %q, want %q", got, want)
	}
	if p.KeyID(want) == p.KeyID(all) {
		t.Error("what was sealed with fewer keys has the same key id")
	}
	if got, err := ring(t, q.Policy).Open(t.Context(), e, p.KeyID(want)); err != nil || string(got) != "secret" {
		t.Errorf("opens as %q, %v", got, err)
	}
	calls := q.fakes[1].Calls("wrap")
	if again, err := p.Seal(t.Context(), want, []byte("secret")); err != nil || !reflect.DeepEqual(again.Versions(), want) || q.fakes[1].Calls("wrap") != calls {
		t.Errorf("a key that takes no part is asked: %v", err)
	}
	q.fakes[0].Fail(keyservice.Throttled)
	if _, err := p.Seal(t.Context(), want, []byte("secret")); keyservice.KindOf(err) != keyservice.Throttled {
		t.Errorf("sealed with one share: %v", err)
	}
	for _, shares := range []int{1, 5} {
		if _, err := q.AtLeast(shares); err == nil {
			t.Errorf("at least %d of 4 is accepted", shares)
		}
	}
}

// TestASlowKeyDoesNotHoldUpWriting uses time that is not real.
func TestASlowKeyDoesNotHoldUpWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuorum(t, 2, 3)
		p, err := q.AtLeast(2)
		if err != nil {
			t.Fatal(err)
		}
		q.fakes[2].Break(keyservicetest.Fault{Stall: time.Minute})
		start := time.Now()
		e, err := p.Seal(t.Context(), q.versionsOf(t, 0, 1, 2), []byte("secret"))
		if err != nil || len(e.Shares) != 2 || time.Since(start) > time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

// versionsOf asks the fakes before they stall.
func (q quorum) versionsOf(t *testing.T, slots ...int) []keyservice.VersionID {
	versions := make([]keyservice.VersionID, len(q.fakes))
	for _, slot := range slots {
		q.fakes[slot].Break(keyservicetest.Fault{Stall: time.Minute, Ops: []string{"wrap", "unwrap"}})
		versions[slot] = newest(t, q.fakes[slot])
	}
	for _, slot := range slots[:2] {
		q.fakes[slot].Break(keyservicetest.Fault{})
	}
	return versions
}

// TestHedging stalls each key by turns and wants the others to be asked soon, in time that is not real.
func TestHedging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuorum(t, 2, 3)
		ring := ring(t, q.Policy)
		e := q.seal(t, "secret")
		usual := keyservicetest.Fault{Stall: 5 * time.Millisecond, Ops: []string{"unwrap"}}
		q.only(0, usual)
		for range 20 {
			if _, err := ring.Open(t.Context(), e, ""); err != nil {
				t.Fatal(err)
			}
		}
		for slot := range q.fakes {
			q.only(0, usual)
			q.fakes[slot].Break(keyservicetest.Fault{Stall: time.Minute, Ops: []string{"unwrap"}})
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			start := time.Now()
			if _, err := ring.Open(ctx, e, ""); err != nil || time.Since(start) > 100*time.Millisecond {
				t.Errorf("key %d stalls: %v after %s", slot, err, time.Since(start))
			}
			cancel()
		}
	})
}

// TestPatience wants the keys of a patient policy to be asked in the order given, another one only when one fails or hangs, and
// what it seals to open without patience.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuorum(t, 2, 3)
		members := q.Members()
		listed, err := envelope.NewPolicy(prod, 0, 2, members[2], members[0], members[1])
		if err != nil {
			t.Fatal(err)
		}
		ring := ring(t, listed.Patient())
		e := q.seal(t, "secret")
		open := func(break2 keyservicetest.Fault, longest time.Duration, calls ...int) {
			t.Helper()
			q.fakes[2].Break(break2)
			var before []int
			for _, f := range q.fakes {
				before = append(before, f.Calls("unwrap"))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			start := time.Now()
			if _, err := ring.Open(ctx, e, listed.KeyID(e.Versions())); err != nil || time.Since(start) > longest {
				t.Errorf("%v after %s", err, time.Since(start))
			}
			for slot, f := range q.fakes {
				if got := f.Calls("unwrap") - before[slot]; got != calls[slot] {
					t.Errorf("key %d was asked %d times, want %d", slot, got, calls[slot])
				}
			}
		}
		slow := keyservicetest.Fault{Stall: 900 * time.Millisecond, Ops: []string{"unwrap"}}
		hung := keyservicetest.Fault{Stall: time.Minute, Ops: []string{"unwrap"}}
		away := keyservicetest.Fault{Err: &keyservice.Error{Kind: keyservice.Unavailable, Op: "asking the fake"}}
		for range 3 {
			open(keyservicetest.Fault{}, 0, 1, 0, 1)
			open(slow, slow.Stall, 1, 0, 1)
			open(hung, time.Second, 1, 1, 1)
		}
		open(away, 0, 1, 1, 1)
		open(away, 0, 1, 1, 0) // it failed just now
	})
}

// TestFailuresAreRememberedForAWhile counts the calls to a key that is away.
func TestFailuresAreRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuorum(t, 1, 2)
		ring := ring(t, q.Policy)
		e := q.seal(t, "secret")
		q.fakes[0].Fail(keyservice.Unavailable)
		open := func() {
			t.Helper()
			if _, err := ring.Open(t.Context(), e, ""); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			open()
		}
		if calls := q.fakes[0].Calls("unwrap"); calls != 1 {
			t.Errorf("a key that is away was asked %d times", calls)
		}
		time.Sleep(time.Minute)
		open()
		if calls := q.fakes[0].Calls("unwrap"); calls != 2 {
			t.Errorf("after a minute it was asked %d times", calls)
		}
	})
}

func TestTooFewKeysHaveTheKindOfWhatMayPass(t *testing.T) {
	q := newQuorum(t, 2, 3)
	e := q.seal(t, "secret")
	q.fakes[0].Fail(keyservice.Denied)
	q.fakes[2].Fail(keyservice.Throttled)
	_, err := ring(t, q.Policy).Open(t.Context(), e, "")
	if keyservice.KindOf(err) != keyservice.Throttled {
		t.Errorf("%v", err)
	}
}

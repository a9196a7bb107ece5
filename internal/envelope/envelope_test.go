package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

var prod = envelope.Cluster{Name: "prod-eu-1", Lineage: [16]byte{0x7f, 0x3c}}

func policy(t *testing.T, cluster envelope.Cluster, generation uint32, id string, key keyservice.Key) *envelope.Policy {
	t.Helper()
	p, err := envelope.NewPolicy(cluster, generation, 1, envelope.Member{ID: id, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ring(t *testing.T, policies ...*envelope.Policy) *envelope.Ring {
	t.Helper()
	r, err := envelope.NewRing(policies...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newest(t *testing.T, key keyservice.Key) keyservice.VersionID {
	t.Helper()
	v, _, err := key.Versions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v.ID
}

func seal(t *testing.T, p *envelope.Policy, plaintext string) *envelope.Envelope {
	t.Helper()
	e, err := p.Seal(t.Context(), []keyservice.VersionID{newest(t, p.Members()[0].Key)}, []byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func marshal(t *testing.T, e *envelope.Envelope) []byte {
	t.Helper()
	ciphertext, spilled, err := e.Marshal(1024)
	if err != nil || spilled != nil {
		t.Fatalf("encoding: %v, %d bytes spilled", err, len(spilled))
	}
	return ciphertext
}

func TestSealedOpens(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now())
	p := policy(t, prod, 0, "fake", fake)
	r := ring(t, p)
	for _, plaintext := range []string{"", "ping", strings.Repeat("x", 32), strings.Repeat("y", 512)} {
		e := seal(t, p, plaintext)
		keyID := p.KeyID([]keyservice.VersionID{newest(t, fake)})
		ciphertext := marshal(t, e)
		parsed, err := envelope.Parse(ciphertext, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Open(t.Context(), parsed, keyID)
		if err != nil || string(got) != plaintext {
			t.Errorf("%d bytes: %v, %q", len(plaintext), err, got)
		}
		if got, err := r.Open(t.Context(), parsed, ""); err != nil || string(got) != plaintext {
			t.Errorf("without a key id: %v, %q", err, got)
		}
	}
}

func TestSameSecretNeverLooksTheSame(t *testing.T) {
	p := policy(t, prod, 0, "fake", keyservicetest.NewFake(time.Now()))
	if a, b := seal(t, p, "secret"), seal(t, p, "secret"); bytes.Equal(a.Seal, b.Seal) {
		t.Error("two seals of one plaintext are equal: a root was used twice")
	}
}

// An envelope of 32 bytes, the size of an API server's seed, has to stay small: it is copied into every object.
func TestSizeOfASeed(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now())
	p := policy(t, prod, 0, "fake", fake)
	wrappedAndVersion := 60 + len(newest(t, fake))
	if got := len(marshal(t, seal(t, p, strings.Repeat("s", 32)))); got != 20+4+wrappedAndVersion+48 {
		t.Errorf("the envelope has %d bytes, %d of them are the key service's", got, wrappedAndVersion)
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	p := policy(t, prod, 0, "fake", keyservicetest.NewFake(time.Now()))
	r := ring(t, p)
	ciphertext := marshal(t, seal(t, p, strings.Repeat("s", 32)))
	for i := range ciphertext {
		for bit := range 8 {
			flipped := slices.Clone(ciphertext)
			flipped[i] ^= 1 << bit
			if e, err := envelope.Parse(flipped, nil); err == nil {
				if _, err = r.Open(t.Context(), e, ""); err == nil {
					t.Errorf("opened with bit %d of byte %d flipped", bit, i)
				}
			}
		}
	}
	for n := range ciphertext {
		if e, err := envelope.Parse(ciphertext[:n], nil); err == nil {
			if _, err = r.Open(t.Context(), e, ""); err == nil {
				t.Errorf("opened when cut to %d bytes", n)
			}
		}
	}
	if e, err := envelope.Parse(append(ciphertext, 0), nil); err == nil {
		if _, err = r.Open(t.Context(), e, ""); !errors.Is(err, envelope.ErrForged) {
			t.Errorf("one byte longer: %v", err)
		}
	}
}

func TestOnlyListedPoliciesOpen(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now())
	other := prod
	other.Lineage[15]++
	sealed := policy(t, prod, 1, "fake", fake)
	e := seal(t, sealed, "secret")
	tests := map[string]struct {
		ring *envelope.Ring
		want error
	}{
		"listed second":                    {ring(t, policy(t, prod, 2, "fake", fake), sealed), nil},
		"another generation":               {ring(t, policy(t, prod, 2, "fake", fake)), envelope.ErrPolicy},
		"another key id":                   {ring(t, policy(t, prod, 1, "other", fake)), envelope.ErrPolicy},
		"another lineage of the same name": {ring(t, policy(t, other, 1, "fake", fake)), envelope.ErrCluster},
		"former cluster listed":            {ring(t, policy(t, other, 1, "fake", fake), sealed), nil},
	}
	for name, test := range tests {
		_, err := test.ring.Open(t.Context(), e, "")
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if err != nil && (keyservice.KindOf(err) != keyservice.Invalid || keyservice.HintOf(err) == "") {
			t.Errorf("%s: kind %s, hint %q", name, keyservice.KindOf(err), keyservice.HintOf(err))
		}
	}
}

// Somebody who can use one configured key and write to etcd puts envelopes together.
func TestForgeriesAreRefused(t *testing.T) {
	ours, theirs := keyservicetest.NewFake(time.Now()), keyservicetest.NewFake(time.Now())
	p := policy(t, prod, 0, "ours", ours)
	r := ring(t, p)
	genuine := seal(t, p, "secret")

	underOtherKey := seal(t, policy(t, prod, 0, "theirs", theirs), "forged")
	relabelled := *underOtherKey
	relabelled.PolicyTag = genuine.PolicyTag
	swapped := *genuine
	swapped.Shares = seal(t, p, "other").Shares
	oldGeneration := seal(t, policy(t, prod, 7, "ours", ours), "forged")
	oldRelabelled := *oldGeneration
	oldRelabelled.PolicyTag = genuine.PolicyTag
	lowered := *genuine
	lowered.Keys = 2

	tests := map[string]struct {
		forged *envelope.Envelope
		kind   keyservice.Kind
	}{
		"1 of 1 under another configured key": {underOtherKey, keyservice.Invalid},
		"its tag changed to a listed policy":  {&relabelled, keyservice.NotFound},
		"share of another envelope":           {&swapped, keyservice.Corrupt},
		"old generation":                      {oldGeneration, keyservice.Invalid},
		"old generation, tag changed":         {&oldRelabelled, keyservice.Corrupt},
		"n changed":                           {&lowered, keyservice.Invalid},
	}
	for name, test := range tests {
		got, err := r.Open(t.Context(), test.forged, "")
		if err == nil {
			t.Errorf("%s: opened as %q", name, got)
		} else if keyservice.KindOf(err) != test.kind {
			t.Errorf("%s: kind %s, want %s: %v", name, keyservice.KindOf(err), test.kind, err)
		}
	}
}

func TestKeyIDMustBeTheEnvelopesOwn(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now())
	p := policy(t, prod, 0, "fake", fake)
	e := seal(t, p, "secret")
	fake.Rotate(time.Now())
	for _, keyID := range []string{p.KeyID([]keyservice.VersionID{newest(t, fake)}), "t1.", "1", strings.Repeat("k", 1024)} {
		if _, err := ring(t, p).Open(t.Context(), e, keyID); !errors.Is(err, envelope.ErrKeyID) {
			t.Errorf("key id %.40q: %v", keyID, err)
		}
	}
}

func TestKeyIDStandsForEverything(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now())
	lineage := envelope.Cluster{Name: prod.Name}
	ids := map[string]string{}
	for name, id := range map[string]string{
		"base":       policy(t, prod, 0, "fake", fake).KeyID([]keyservice.VersionID{"v1"}),
		"version":    policy(t, prod, 0, "fake", fake).KeyID([]keyservice.VersionID{"v2"}),
		"generation": policy(t, prod, 1, "fake", fake).KeyID([]keyservice.VersionID{"v1"}),
		"key":        policy(t, prod, 0, "fake2", fake).KeyID([]keyservice.VersionID{"v1"}),
		"lineage":    policy(t, lineage, 0, "fake", fake).KeyID([]keyservice.VersionID{"v1"}),
		"name":       policy(t, envelope.Cluster{Name: "x", Lineage: prod.Lineage}, 0, "fake", fake).KeyID([]keyservice.VersionID{"v1"}),
	} {
		if len(id) != 30 || !strings.HasPrefix(id, "t1.") {
			t.Errorf("%s: key id %q", name, id)
		}
		if other, ok := ids[id]; ok {
			t.Errorf("%s and %s have the same key id", name, other)
		}
		ids[id] = name
	}
	if a := policy(t, prod, 0, "fake", fake).KeyID([]keyservice.VersionID{"v1"}); ids[a] != "base" {
		t.Error("the same policy and version have another key id the second time")
	}
}

func TestSpilling(t *testing.T) {
	e := &envelope.Envelope{Need: 2, Keys: 3, Seal: make([]byte, 48), Shares: []envelope.Share{
		{Slot: 0, Version: "a", Wrapped: make([]byte, 60), Digest: [8]byte{1}},
		{Slot: 1, Version: "b", Wrapped: make([]byte, 512)},
		{Slot: 2, Version: "c", Wrapped: make([]byte, 512), Digest: [8]byte{3}},
	}}
	for _, limit := range []int{0, 2000, 1024, 400, 100} {
		ciphertext, spilled, err := e.Marshal(limit)
		if err != nil || (limit > 0 && len(ciphertext) > limit) {
			t.Fatalf("limit %d: %d bytes, %v", limit, len(ciphertext), err)
		}
		got, err := envelope.Parse(ciphertext, spilled)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("limit %d: %v\n got %+v\nwant %+v", limit, err, got, e)
		}
		if len(spilled) == 0 {
			continue
		}
		for name, bad := range map[string][]byte{
			"missing": nil, "cut": spilled[:len(spilled)-1], "longer": append(slices.Clone(spilled), 0), "twice": append(slices.Clone(spilled), spilled...),
		} {
			if _, err := envelope.Parse(ciphertext, bad); !errors.Is(err, envelope.ErrMalformed) {
				t.Errorf("limit %d, spilled shares %s: %v", limit, name, err)
			}
		}
	}
	if _, _, err := e.Marshal(60); err == nil {
		t.Error("fits into 60 bytes")
	}
}

func TestPoliciesThatCannotBe(t *testing.T) {
	m := envelope.Member{ID: "a", Key: keyservicetest.NewFake(time.Now())}
	for _, test := range []struct{ need, keys int }{{0, 0}, {1, 0}, {0, 1}, {2, 1}, {0, 8}, {9, 8}, {1, 9}} {
		var members []envelope.Member
		for i := range test.keys {
			members = append(members, envelope.Member{ID: string(rune('a' + i)), Key: m.Key})
		}
		if _, err := envelope.NewPolicy(prod, 0, test.need, members...); err == nil {
			t.Errorf("%d of %d is accepted", test.need, test.keys)
		}
	}
	if _, err := envelope.NewPolicy(prod, 0, 1, m, m); err == nil {
		t.Error("one key counts twice")
	}
	for _, name := range []string{"", strings.Repeat("n", 64)} {
		if _, err := envelope.NewPolicy(envelope.Cluster{Name: name}, 0, 1, m); err == nil {
			t.Errorf("a cluster's name of %d bytes is accepted", len(name))
		}
	}
	p := policy(t, prod, 0, "a", m.Key)
	if _, err := envelope.NewRing(p, policy(t, prod, 0, "a", m.Key)); err == nil {
		t.Error("a policy may be listed twice")
	}
	if _, err := envelope.NewRing(); err == nil {
		t.Error("a ring without a policy")
	}
}

func TestServiceErrorsKeepTheirKind(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now())
	p := policy(t, prod, 0, "fake", fake)
	e := seal(t, p, "secret")
	for _, kind := range keyservice.Kinds() {
		fake.Fail(kind)
		if _, err := p.Seal(t.Context(), e.Versions(), []byte("x")); keyservice.KindOf(err) != kind {
			t.Errorf("sealing: %v, want %s", err, kind)
		}
		if _, err := ring(t, p).Open(t.Context(), e, ""); keyservice.KindOf(err) != kind {
			t.Errorf("opening: %v, want %s", err, kind)
		}
	}
	fake.Break(keyservicetest.Fault{Damage: true})
	if got, err := ring(t, p).Open(t.Context(), e, ""); !errors.Is(err, envelope.ErrForged) {
		t.Errorf("a service that answers garbage: %v, %q", err, got)
	}
}

// What a service answered must open again, or it must not be stored.
func TestAnswersThatCannotBeStoredAreRefused(t *testing.T) {
	for name, wrapped := range map[string]keyservice.Wrapped{
		"no version":   {Bytes: make([]byte, 60)},
		"long version": {Version: keyservice.VersionID(strings.Repeat("v", 65)), Bytes: make([]byte, 60)},
		"no bytes":     {Version: "v1"},
	} {
		key := answering{keyservicetest.NewFake(time.Now()), wrapped}
		_, err := policy(t, prod, 0, "odd", key).Seal(t.Context(), []keyservice.VersionID{"v1"}, []byte("x"))
		if err == nil || keyservice.KindOf(err) != keyservice.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// answering wraps everything to the same answer.
type answering struct {
	*keyservicetest.Fake
	wrapped keyservice.Wrapped
}

func (a answering) Wrap(context.Context, keyservice.VersionID, []byte, []byte) (keyservice.Wrapped, error) {
	return a.wrapped, nil
}

func FuzzParse(f *testing.F) {
	fake := keyservicetest.NewFake(time.Time{})
	p, err := envelope.NewPolicy(prod, 0, 1, envelope.Member{ID: "fake", Key: fake})
	if err != nil {
		f.Fatal(err)
	}
	v, _, err := fake.Versions(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	e, err := p.Seal(f.Context(), []keyservice.VersionID{v.ID}, []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	ciphertext, _, _ := e.Marshal(0)
	f.Add(ciphertext, []byte(nil))
	big := &envelope.Envelope{Need: 2, Keys: 2, Seal: make([]byte, 16), Shares: []envelope.Share{
		{Slot: 0, Version: "a", Wrapped: make([]byte, 600)}, {Slot: 1, Version: "b", Wrapped: make([]byte, 600)},
	}}
	inline, spilled, _ := big.Marshal(1024)
	f.Add(inline, spilled)
	f.Fuzz(func(t *testing.T, ciphertext, spilled []byte) {
		e, err := envelope.Parse(ciphertext, spilled)
		if err != nil {
			if !errors.Is(err, envelope.ErrMalformed) || keyservice.KindOf(err) != keyservice.Corrupt {
				t.Fatalf("unclassified: %v", err)
			}
			return
		}
		whole, none, err := e.Marshal(0)
		if err != nil || none != nil {
			t.Fatalf("what parses does not encode: %v", err)
		}
		if again, err := envelope.Parse(whole, nil); err != nil || !reflect.DeepEqual(e, again) {
			t.Fatalf("encoding and parsing again changes it: %v", err)
		}
	})
}

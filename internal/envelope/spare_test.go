package envelope_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// TestASpareSealsOnceWithoutAnyKey prepares a root, takes every key away, seals, and opens when they are back.
func TestASpareSealsOnceWithoutAnyKey(t *testing.T) {
	q := newQuorum(t, 2, 3)
	prepared, err := q.Prepare(t.Context(), q.versions(t))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := prepared.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	spare, err := q.ParseSpare(encoded)
	if err != nil {
		t.Fatal(err)
	}
	clear(encoded) // the Spare has its own
	q.only(0, keyservicetest.Fault{Err: &keyservice.Error{Kind: keyservice.Unavailable, Op: "asking"}})
	e, err := spare.Seal([]byte("seed"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := spare.Seal([]byte("another")); !errors.Is(err, envelope.ErrSpent) {
		t.Errorf("sealed twice: %v", err)
	}
	if _, err := spare.Marshal(); !errors.Is(err, envelope.ErrSpent) {
		t.Errorf("encoded once it was spent: %v", err)
	}
	q.only(0b111, keyservicetest.Fault{})
	got, err := ring(t, q.Policy).Open(t.Context(), e, q.KeyID(spare.Versions()))
	if err != nil || !bytes.Equal(got, []byte("seed")) {
		t.Errorf("opened %q, %v", got, err)
	}
	prepared.Wipe()
	if _, err := prepared.Seal([]byte("seed")); !errors.Is(err, envelope.ErrSpent) {
		t.Errorf("sealed once it was wiped: %v", err)
	}
}

func TestASpareOfAnotherPolicyIsRefused(t *testing.T) {
	q, other := newQuorum(t, 2, 3), newQuorum(t, 3, 3)
	prepared, err := q.Prepare(t.Context(), q.versions(t))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := prepared.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ParseSpare(encoded); !errors.Is(err, envelope.ErrPolicy) {
		t.Errorf("another policy: %v", err)
	}
	for _, cut := range [][]byte{nil, encoded[:len(encoded)-1], append(bytes.Clone(encoded), 0)} {
		if _, err := q.ParseSpare(cut); err == nil {
			t.Errorf("took %d of %d bytes", len(cut), len(encoded))
		}
	}
}

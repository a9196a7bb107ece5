package gcpkms_test

import (
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/proto"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// TestPrimaryIsNewest: what counts is which version is primary, not which was made last.
func TestPrimaryIsNewest(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	first, _ := keyservicetest.Versions(t, key)
	fake.AddVersion()
	if newest, previous := keyservicetest.Versions(t, key); newest != first || previous.ID != "" {
		t.Errorf("a version that is not primary was taken: %v, %v", newest, previous)
	}
	fake.SetPrimary(2)
	second, previous := keyservicetest.Versions(t, key)
	if second.ID == first.ID || previous != first {
		t.Errorf("after version 2 became primary: %v, %v", second, previous)
	}
	w := keyservicetest.Wrap(t, key, first.ID)
	if w.Version != first.ID {
		t.Errorf("asked for %q, wrapped by %q", first.ID, w.Version)
	}
	fake.SetPrimary(1)
	if newest, previous := keyservicetest.Versions(t, key); newest != first || previous.ID != "" {
		t.Errorf("after version 1 became primary again: %v, %v", newest, previous)
	}
	if w := keyservicetest.Wrap(t, key, second.ID); w.Version != second.ID { // what was adopted stays usable
		t.Errorf("asked for %q, wrapped by %q", second.ID, w.Version)
	}
}

// TestStates gives the primary version and the one before it each state.
func TestStates(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	fake.Rotate()
	for number := range kmspb.CryptoKeyVersion_CryptoKeyVersionState_name {
		state := kmspb.CryptoKeyVersion_CryptoKeyVersionState(number)
		fake.SetState(1, state)
		fake.SetState(2, state)
		want := keyservice.StateDisabled
		if state == kmspb.CryptoKeyVersion_ENABLED {
			want = keyservice.StateEnabled
		}
		newest, previous := keyservicetest.Versions(t, key)
		gone := state == kmspb.CryptoKeyVersion_DESTROYED
		if newest.State != want || newest.Created.IsZero() || (previous.ID == "") != gone || (!gone && previous.State != want) {
			t.Errorf("%s: newest %v, previous %v", state, newest, previous)
		}
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	for _, test := range []struct {
		change func(*kmspb.CryptoKey)
		kind   keyservice.Kind
		text   string
	}{
		{func(k *kmspb.CryptoKey) { k.Purpose = kmspb.CryptoKey_ASYMMETRIC_DECRYPT }, keyservice.Invalid, "ASYMMETRIC_DECRYPT"},
		{func(k *kmspb.CryptoKey) { k.Primary = nil }, keyservice.NotFound, "no primary version"},
		{func(k *kmspb.CryptoKey) { k.Primary.CreateTime = nil }, keyservice.Corrupt, "no creation time"},
		{func(k *kmspb.CryptoKey) { k.Primary.Name = "version-1" }, keyservice.Corrupt, "no version of this key"},
	} {
		fake.Damage(func(m proto.Message) { test.change(m.(*kmspb.CryptoKey)) })
		_, _, err := key.Versions(t.Context())
		wantKind(t, err, test.kind, test.text)
	}
}

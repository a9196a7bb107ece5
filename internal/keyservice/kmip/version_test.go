package kmip_test

import (
	"testing"
	"time"

	kmipgo "github.com/ovh/kmip-go"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip/kmiptest"
)

func setState(f *kmiptest.Fake, uid string, state kmipgo.State) {
	f.Edit(uid, func(o *kmiptest.Object) { o.State = state })
}

func TestStates(t *testing.T) {
	t.Parallel()
	f := kmiptest.Start(t)
	uid := f.CreateKey("k8s")
	key := open(t, config(f, "k8s", ""), nil)
	w := keyservicetest.Wrap(t, key, "")
	for _, c := range []struct {
		state kmipgo.State
		want  keyservice.State
		opens bool
	}{
		{kmipgo.StateDeactivated, keyservice.StateOpenOnly, true},
		{kmipgo.StateCompromised, keyservice.StateOpenOnly, true},
		{kmipgo.StatePreActive, keyservice.StateDisabled, false},
	} {
		setState(f, uid, c.state)
		_, err := key.Wrap(t.Context(), w.Version, secret, aad) // known as enabled: the server refuses
		keyservicetest.WantKind(t, err, keyservice.Disabled, "illegal operation")
		_, err = key.Wrap(t.Context(), "", secret, aad) // read again: nothing is sent
		keyservicetest.WantKind(t, err, keyservice.Disabled, "state")
		if newest, _ := keyservicetest.Versions(t, key); newest.State != c.want {
			t.Errorf("state %d: %s, want %s", c.state, newest.State, c.want)
		}
		if c.opens {
			keyservicetest.Unwrap(t, key, w)
		} else {
			_, err = key.Unwrap(t.Context(), w, aad)
			keyservicetest.WantKind(t, err, keyservice.Disabled, "PreActive")
		}
		setState(f, uid, kmipgo.StateActive)
		keyservicetest.RoundTrip(t, key)
	}
	for _, state := range []kmipgo.State{kmipgo.StateDestroyed, kmipgo.StateDestroyedCompromised} {
		setState(f, uid, state)
		_, err := key.Unwrap(t.Context(), w, aad)
		keyservicetest.WantKind(t, err, keyservice.NotFound, "")
		setState(f, uid, kmipgo.StateActive)
	}
	f.Edit(uid, func(o *kmiptest.Object) { o.Usage = kmipgo.CryptographicUsageDecrypt })
	_, err := key.Wrap(t.Context(), w.Version, secret, aad)
	keyservicetest.WantKind(t, err, keyservice.Invalid, "lacks Encrypt")
}

// TestNewest: the last active one wraps. One that is not yet active, or no more, does not hide it.
func TestNewest(t *testing.T) {
	t.Parallel()
	f := kmiptest.Start(t)
	first := f.CreateKey("k8s")
	key := open(t, config(f, "k8s", ""), nil)
	v1, none := keyservicetest.Versions(t, key)
	if none != (keyservice.Version{}) || time.Since(v1.Created) > time.Minute {
		t.Errorf("first version %v, previous %v", v1, none)
	}
	second := f.CreateKey("k8s")
	later := time.Now().Add(time.Hour).Truncate(time.Second)
	f.Edit(second, func(o *kmiptest.Object) { o.State, o.Activation = kmipgo.StatePreActive, later })
	if got, before := keyservicetest.Versions(t, key); got != v1 || before.ID != "" {
		t.Errorf("a version that is not active yet changed %v to %v, previous %v", v1, got, before)
	}
	setState(f, second, kmipgo.StateActive)
	v2, before := keyservicetest.Versions(t, key)
	if v2.ID == v1.ID || before != v1 || !v2.Created.Equal(later) {
		t.Errorf("newest %v, previous %v", v2, before)
	}
	setState(f, first, kmipgo.StateDeactivated)
	if _, before := keyservicetest.Versions(t, key); before.State != keyservice.StateOpenOnly {
		t.Errorf("previous %v", before)
	}
	setState(f, first, kmipgo.StateActive)
	setState(f, second, kmipgo.StateDeactivated)
	if got, _ := keyservicetest.Versions(t, key); got.ID != v1.ID {
		t.Errorf("after the newest was deactivated: %v", got)
	}
}

// TestLinks: any version's unique identifier leads to all of them, within one second too.
func TestLinks(t *testing.T) {
	t.Parallel()
	f := kmiptest.Start(t)
	uids := []string{f.CreateKey("k8s")}
	for range 3 {
		uids = append(uids, f.Rekey(uids[len(uids)-1]))
	}
	byName := open(t, config(f, "k8s", ""), nil)
	newest, previous := keyservicetest.Versions(t, byName)
	for _, uid := range uids {
		c := config(f, "", "")
		c.Key = kmip.Object{UniqueID: uid}
		key := open(t, c, nil)
		if n, p := keyservicetest.Versions(t, key); n != newest || p != previous {
			t.Errorf("from %s: %v, %v, want %v, %v", uid, n, p, newest, previous)
		}
		keyservicetest.Unwrap(t, key, keyservicetest.Wrap(t, byName, previous.ID))
	}
	setState(f, uids[3], kmipgo.StateDeactivated)
	if n, _ := keyservicetest.Versions(t, byName); n.ID != previous.ID {
		t.Errorf("the last of the chain is deactivated, and the newest is %v", n)
	}
	f.Destroy(uids[0])
	keyservicetest.RoundTrip(t, byName)
}

// TestOnlyOwnObjectsOpen: the name of a version in an envelope must not lead to another key.
func TestOnlyOwnObjectsOpen(t *testing.T) {
	t.Parallel()
	f := kmiptest.Start(t)
	f.CreateKey("mine")
	uid := f.CreateKey("others")
	w := keyservicetest.Wrap(t, open(t, config(f, "others", ""), nil), "")
	mine := open(t, config(f, "mine", ""), nil)
	for _, id := range []keyservice.VersionID{w.Version, keyservice.VersionID(uid)} {
		_, err := mine.Unwrap(t.Context(), keyservice.Wrapped{Version: id, Bytes: w.Bytes}, aad)
		keyservicetest.WantKind(t, err, keyservice.NotFound, "no version")
	}
}

// TestPairs: with AES-CBC, both keys rotate and every pair is a version.
func TestPairs(t *testing.T) {
	t.Parallel()
	f := kmiptest.Start(t)
	oldKey, oldMAC := f.CreateKey("k8s"), f.CreateMAC("k8s-mac")
	early := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, uid := range []string{oldKey, oldMAC} {
		f.Edit(uid, func(o *kmiptest.Object) { o.Activation = early })
	}
	key := open(t, config(f, "k8s", "k8s-mac"), nil)
	first := keyservicetest.Wrap(t, key, "")
	mac := f.CreateMAC("k8s-mac")
	f.Edit(mac, func(o *kmiptest.Object) { o.Activation = early.Add(time.Minute) })
	newest, previous := keyservicetest.Versions(t, key)
	if previous.ID != first.Version || !newest.Created.Equal(early.Add(time.Minute)) {
		t.Errorf("after the HMAC key: %v, %v", newest, previous)
	}
	f.CreateKey("k8s")
	afterKey, beforeKey := keyservicetest.Versions(t, key)
	if beforeKey.ID != newest.ID || afterKey.ID == newest.ID {
		t.Errorf("after the AES key: %v, %v", afterKey, beforeKey)
	}
	keyservicetest.Unwrap(t, key, first)

	// Bytes that one AES key made do not even reach another, though both have the same HMAC key.
	w := keyservicetest.Wrap(t, key, newest.ID)
	_, err := key.Unwrap(t.Context(), keyservice.Wrapped{Version: afterKey.ID, Bytes: w.Bytes}, aad)
	keyservicetest.WantKind(t, err, keyservice.Corrupt, "MAC")

	setState(f, oldMAC, kmipgo.StateDeactivated)
	_, err = key.Unwrap(t.Context(), first, aad)
	keyservicetest.WantKind(t, err, keyservice.Disabled, "HMAC key is in state Deactivated")
	f.Destroy(oldMAC)
	_, err = key.Unwrap(t.Context(), first, aad)
	keyservicetest.WantKind(t, err, keyservice.NotFound, "")

	// A version of AES-GCM is none of AES-CBC, and the other way round.
	plain := open(t, config(f, "k8s", ""), nil)
	_, err = plain.Unwrap(t.Context(), w, aad)
	keyservicetest.WantKind(t, err, keyservice.NotFound, "")
	_, err = key.Unwrap(t.Context(), keyservicetest.Wrap(t, plain, ""), aad)
	keyservicetest.WantKind(t, err, keyservice.NotFound, "")
}

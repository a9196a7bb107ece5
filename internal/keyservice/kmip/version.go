package kmip

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ovh/kmip-go"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// version is what one secret is wrapped with: an AES key and, for AES-CBC, an HMAC key.
type version struct {
	key object
	mac object // the zero object for AES-GCM
}

// id is the id of the AES key and, after a dot, that of the HMAC key: "3f9a02c4d7e1" or "3f9a02c4d7e1.0b77c3a9e5d2".
func (v version) id() keyservice.VersionID {
	if v.mac.uid == "" {
		return keyservice.VersionID(v.key.id())
	}
	return keyservice.VersionID(v.key.id() + "." + v.mac.id())
}

// created is when the later of the two keys came into use.
func (v version) created() time.Time {
	if v.mac.created().After(v.key.created()) {
		return v.mac.created()
	}
	return v.key.created()
}

// state follows the life cycle of KMIP: what is deactivated or compromised opens, and wraps nothing new. An HMAC key has
// to be active, because a server makes no MAC with any other, and what is opened is checked with a MAC that it makes.
func (v version) state() keyservice.State {
	if v.mac.uid != "" && v.mac.state != kmip.StateActive {
		return keyservice.StateDisabled
	}
	switch v.key.state {
	case kmip.StateActive:
		return keyservice.StateEnabled
	case kmip.StateDeactivated, kmip.StateCompromised:
		return keyservice.StateOpenOnly
	}
	return keyservice.StateDisabled
}

// describe returns the zero Version for the zero version.
func (v version) describe() keyservice.Version {
	if v.key.uid == "" {
		return keyservice.Version{}
	}
	return keyservice.Version{ID: v.id(), Created: v.created(), State: v.state()}
}

// why says what the server told of the state.
func (v version) why() string {
	if v.mac.uid != "" && v.mac.state != kmip.StateActive {
		return fmt.Sprintf("its HMAC key is in state %s", enum(v.mac.state))
	}
	return fmt.Sprintf("it is in state %s", enum(v.key.state))
}

// catalog is all that a key consists of. macs is empty for AES-GCM.
type catalog struct {
	keys, macs chain
}

// versions returns the newest version and the one before it. With two keys that is the one from before the last change of
// either.
func (c catalog) versions() (newest, previous version) {
	n := c.keys.newest()
	newest.key = c.keys[n]
	if len(c.macs) == 0 {
		if before := c.keys.before(n); before >= 0 {
			previous.key = c.keys[before]
		}
		return newest, previous
	}
	m := c.macs.newest()
	newest.mac = c.macs[m]
	if newest.mac.created().After(newest.key.created()) {
		if before := c.macs.before(m); before >= 0 {
			previous = version{key: newest.key, mac: c.macs[before]}
		}
	} else if before := c.keys.before(n); before >= 0 {
		previous = version{key: c.keys[before], mac: newest.mac}
	}
	return newest, previous
}

// find returns the version with an id: any AES key of the key with any of its HMAC keys.
func (c catalog) find(id keyservice.VersionID) (version, bool) {
	keyID, macID, paired := strings.Cut(string(id), ".")
	key, ok := c.keys.find(keyID)
	if !ok || paired != (len(c.macs) > 0) {
		return version{}, false
	}
	if !paired {
		return version{key: key}, true
	}
	mac, ok := c.macs.find(macID)
	return version{key: key, mac: mac}, ok
}

// read asks for all objects of the key, remembers them and refuses a key that cannot be used. Only then are there both a
// catalog and an error.
func (k *Key) read(ctx context.Context, op string) (catalog, error) {
	var all catalog
	var err error
	if all.keys, err = k.chain(ctx, op, k.config.Key); err != nil {
		return catalog{}, err
	}
	if k.config.MAC != nil {
		if all.macs, err = k.chain(ctx, op, *k.config.MAC); err != nil {
			return catalog{}, err
		}
	}
	k.mu.Lock()
	k.known = all
	k.mu.Unlock()
	newest, _ := all.versions()
	if err := k.form.problem(newest); err != nil {
		return all, &keyservice.Error{Kind: keyservice.Invalid, Op: op, Err: err, Hint: hintUsage}
	}
	return all, nil
}

func (k *Key) last() catalog {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known
}

// Versions implements keyservice.Key.
func (k *Key) Versions(ctx context.Context) (newest, previous keyservice.Version, err error) {
	all, err := k.read(ctx, "listing versions of "+k.config.ID())
	if err != nil {
		return newest, previous, err
	}
	n, p := all.versions()
	return n.describe(), p.describe(), nil
}

// sealing returns the version to wrap with, the newest for an empty id. It reads the objects unless the last read knows
// this very version as one that wraps.
func (k *Key) sealing(ctx context.Context, op string, id keyservice.VersionID) (version, error) {
	if v, ok := k.last().find(id); ok && v.state() == keyservice.StateEnabled {
		return v, nil
	}
	all, err := k.read(ctx, op)
	if err != nil {
		return version{}, err
	}
	v, ok := all.find(id)
	if id == "" {
		v, _ = all.versions()
	} else if !ok {
		return version{}, noVersion(op, id)
	}
	if v.state() != keyservice.StateEnabled {
		return version{}, disabled(op, v, nil)
	}
	return v, nil
}

// explain looks for the reason behind a refusal, and returns err if it finds none: servers say "permission denied" or
// "illegal operation" of a key whose state does not allow what was asked.
func (k *Key) explain(ctx context.Context, op string, v version, err error) error {
	if kind := keyservice.KindOf(err); kind != keyservice.Denied && kind != keyservice.Invalid {
		return err
	}
	all, readErr := k.read(ctx, op)
	if readErr != nil {
		if keyservice.KindOf(readErr) == keyservice.NotFound || len(all.keys) > 0 {
			return readErr // it is gone, or it is there and of no use
		}
		return err
	}
	now, ok := all.find(v.id())
	if !ok {
		return noVersion(op, v.id())
	}
	if now.state() != keyservice.StateEnabled {
		return disabled(op, now, err)
	}
	return err
}

// disabled is the error for a version whose state does not allow what was asked. said is what the server answered, or nil.
func disabled(op string, v version, said error) *keyservice.Error {
	err := fmt.Errorf("version %q cannot be used: %s", v.id(), v.why())
	if said != nil {
		err = fmt.Errorf("%w (%w)", err, said)
	}
	return &keyservice.Error{Kind: keyservice.Disabled, Op: op, Err: err, Hint: hintState}
}

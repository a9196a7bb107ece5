// Package keyid explains key ids: the opaque names, kept beside every object in etcd, of the policy and key versions
// that sealed it.
//
// A key id is a hash, so it is explained by computing those that a configuration can give and comparing. Only the newest
// version of each key and the one before it are known that way; an envelope itself names its versions.
package keyid

import (
	"context"
	"regexp"
	"slices"
	"time"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// ID is one key id with what it stands for.
type ID struct {
	KeyID      string `json:"keyID"`
	Cluster    string `json:"cluster"`
	Former     bool   `json:"former,omitempty"` // of a cluster that is listed to open only
	Policy     int    `json:"policy"`           // its place in the configuration, from 1; 1 seals
	Generation uint32 `json:"generation"`
	Need       int    `json:"need"`
	Keys       []Part `json:"keys"`      // by slot
	Announced  bool   `json:"announced"` // by the daemon that was asked
}

// Part is what one key of a policy did for a key id.
type Part struct {
	Key     string               `json:"key"`               // its id
	Version keyservice.VersionID `json:"version,omitempty"` // "" if it took no part
	Created *time.Time           `json:"created,omitempty"` // where the key service tells
	Older   bool                 `json:"older,omitempty"`   // its key is known to have a newer version
}

// Older reports whether a key of which a newer version is known took part.
func (id ID) Older() bool {
	return slices.ContainsFunc(id.Keys, func(p Part) bool { return p.Older })
}

// Silent is a key whose versions are not known.
type Silent struct {
	Key string
	Err error
}

// Known is what the keys of a configuration tell of their versions.
type Known struct {
	Silent []Silent

	ring  *envelope.Ring
	parts map[string][]Part // by key id, the newest first
}

// Ask asks every key for its versions.
func Ask(ctx context.Context, keys *keyring.Keyring) *Known {
	k := &Known{ring: keys.Ring, parts: make(map[string][]Part)}
	for _, p := range keys.Ring.Policies() {
		for _, m := range p.Members() {
			if _, asked := k.parts[m.ID]; asked {
				continue
			}
			newest, previous, err := m.Key.Versions(ctx)
			if err != nil {
				k.Silent = append(k.Silent, Silent{m.ID, err})
			}
			k.parts[m.ID] = partsOf(m.ID, keys.Pins[m.ID], newest, previous)
		}
	}
	return k
}

// partsOf returns the known versions, and the pinned one if it is none of them.
func partsOf(key string, pin keyservice.VersionID, newest, previous keyservice.Version) (parts []Part) {
	for _, v := range []keyservice.Version{newest, previous, {ID: pin}} {
		if v.ID == "" || slices.ContainsFunc(parts, func(p Part) bool { return p.Version == v.ID }) {
			continue
		}
		part := Part{Key: key, Version: v.ID, Older: v.ID != newest.ID}
		if !v.Created.IsZero() {
			part.Created = &v.Created
		}
		parts = append(parts, part)
	}
	return parts
}

// List returns the key ids that the listed policies give with the newest version of every key, or with another version of
// one of them. Where a key is silent its policies give none. announced is the key id that a daemon announces, or "".
func (k *Known) List(announced string) (ids []ID) {
	for _, p := range k.ring.Policies() {
		newest, known := make([]Part, len(p.Members())), true
		for slot, m := range p.Members() {
			if known = known && len(k.parts[m.ID]) > 0; known {
				newest[slot] = k.parts[m.ID][0]
			}
		}
		if !known {
			continue
		}
		ids = append(ids, describe(k.ring, p, newest))
		for slot, m := range p.Members() {
			for _, part := range k.parts[m.ID][1:] {
				parts := slices.Clone(newest)
				parts[slot] = part
				ids = append(ids, describe(k.ring, p, parts))
			}
		}
	}
	for i := range ids {
		ids[i].Announced = ids[i].KeyID == announced
	}
	return ids
}

// Find returns what gives a key id: a listed policy with a known version of each of its keys, or without some of them.
func (k *Known) Find(keyID string) (ID, bool) {
	for _, p := range k.ring.Policies() {
		if parts := k.search(p, keyID, nil); parts != nil {
			return describe(k.ring, p, parts), true
		}
	}
	return ID{}, false
}

// search tries all that may follow the first parts. With 8 keys of 3 versions there are 65,536 possibilities, a hash each.
func (k *Known) search(p *envelope.Policy, keyID string, first []Part) []Part {
	if len(first) == len(p.Members()) {
		if p.KeyID(versions(first)) == keyID {
			return slices.Clone(first)
		}
		return nil
	}
	id := p.Members()[len(first)].ID
	for _, part := range append(slices.Clone(k.parts[id]), Part{Key: id}) {
		if found := k.search(p, keyID, append(first, part)); found != nil {
			return found
		}
	}
	return nil
}

func versions(parts []Part) (versions []keyservice.VersionID) {
	for _, part := range parts {
		versions = append(versions, part.Version)
	}
	return versions
}

func describe(ring *envelope.Ring, p *envelope.Policy, parts []Part) ID {
	place := 0
	for _, other := range ring.Policies() {
		if other.Cluster() == p.Cluster() {
			place++
		}
		if other == p {
			break
		}
	}
	return ID{
		KeyID: p.KeyID(versions(parts)), Cluster: p.Cluster().Name, Former: p.Cluster() != ring.Sealing().Cluster(),
		Policy: place, Generation: p.Generation(), Need: p.Need(), Keys: parts,
	}
}

// form is what every key id looks like: "t1." and 20 bytes in base64url.
var form = regexp.MustCompile(`^t1\.[A-Za-z0-9_-]{27}$`)

// Valid reports whether a text could be a key id.
func Valid(text string) bool { return form.MatchString(text) }

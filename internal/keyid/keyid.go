// Package keyid explains key ids: the opaque names, kept beside every object in etcd, of the policy and key versions
// that sealed it.
//
// A key id is a hash, so it is explained by computing those that a configuration can give and comparing. Only the newest
// version of each key and the one before it are known that way; an envelope itself names its versions.
package keyid

import (
	"context"
	"regexp"
	"time"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// ID is one key id with what it stands for.
type ID struct {
	KeyID      string               `json:"keyID"`
	Cluster    string               `json:"cluster"`
	Former     bool                 `json:"former,omitempty"` // of a cluster that is listed to open only
	Policy     int                  `json:"policy"`           // its place in the configuration, from 1; 1 seals
	Generation uint32               `json:"generation"`
	Need       int                  `json:"need"`
	Keys       int                  `json:"keys"`
	Key        string               `json:"key"` // id of the key
	Version    keyservice.VersionID `json:"version"`
	Created    *time.Time           `json:"created,omitempty"` // where the key service tells
	Older      bool                 `json:"older,omitempty"`   // its key is known to have a newer version
	Announced  bool                 `json:"announced"`         // by the daemon that was asked
}

// Silent is a key whose versions are not known.
type Silent struct {
	Key string
	Err error
}

// List returns the key ids that the listed policies give with the versions that their keys tell of, and the keys that
// tell nothing. announced is the key id that a daemon announces, or "".
func List(ctx context.Context, keys *keyring.Keyring, announced string) (ids []ID, silent []Silent) {
	policies := keys.Ring.Policies()
	current := policies[0].Cluster()
	perCluster := 0
	for _, p := range policies {
		if p.Cluster() == current {
			perCluster++
		}
	}
	failed := make(map[string]bool)
	for i, p := range policies {
		member := p.Members()[0]
		newest, previous, err := member.Key.Versions(ctx)
		if err != nil {
			if !failed[member.ID] {
				silent = append(silent, Silent{member.ID, err})
			}
			failed[member.ID] = true
			continue
		}
		for _, v := range versions(keys.Pins[member.ID], newest, previous) {
			id := describe(p, i%perCluster+1, p.Cluster() != current, v)
			id.Older, id.Announced = v.ID != newest.ID, id.KeyID == announced
			ids = append(ids, id)
		}
	}
	return ids, silent
}

// versions returns the known versions, and the pinned one if it is none of them.
func versions(pin keyservice.VersionID, newest, previous keyservice.Version) []keyservice.Version {
	known := []keyservice.Version{newest}
	if previous.ID != "" {
		known = append(known, previous)
	}
	if pin != "" && pin != newest.ID && pin != previous.ID {
		known = append(known, keyservice.Version{ID: pin})
	}
	return known
}

func describe(p *envelope.Policy, place int, former bool, v keyservice.Version) ID {
	id := ID{
		KeyID:   p.KeyID([]keyservice.VersionID{v.ID}),
		Cluster: p.Cluster().Name, Former: former, Policy: place, Generation: p.Generation(),
		Need: p.Need(), Keys: len(p.Members()), Key: p.Members()[0].ID, Version: v.ID,
	}
	if !v.Created.IsZero() {
		id.Created = &v.Created
	}
	return id
}

// form is what every key id looks like: "t1." and 20 bytes in base64url.
var form = regexp.MustCompile(`^t1\.[A-Za-z0-9_-]{27}$`)

// Valid reports whether a text could be a key id.
func Valid(text string) bool { return form.MatchString(text) }

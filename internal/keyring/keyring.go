// Package keyring opens what a configuration lists: its keys, and the ring of policies that they make up.
//
// It is shared by the daemon and by the operator's tool, so that both compute the same key ids. It calls no key service
// beyond what opening a key takes.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Keyring is the open keys of a configuration.
type Keyring struct {
	Ring *envelope.Ring
	// Keys are the open keys by id, without middleware.
	Keys map[string]keyservice.Key
	// Pins are the versions to seal with that the configuration sets, by key id.
	Pins map[string]keyservice.VersionID
}

// Open opens all keys of a complete configuration. Each takes part in the ring as surround returns it, which may be
// nil. An error names the key; whatever was opened before is closed.
func Open(ctx context.Context, d *config.Daemon, log *slog.Logger, surround func(id string, key keyservice.Key) keyservice.Key) (*Keyring, error) {
	k := &Keyring{Keys: make(map[string]keyservice.Key), Pins: make(map[string]keyservice.VersionID)}
	members := make(map[string]envelope.Member) // by the name in the configuration
	for _, c := range d.Keys {
		key, err := c.Open(ctx, log.With("key", c.ID))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("key %s: %w", c.Name, err), k.Close())
		}
		k.Keys[c.ID] = key
		if c.Version != "" {
			k.Pins[c.ID] = c.Version
		}
		if surround != nil {
			key = surround(c.ID, key)
		}
		members[c.Name] = envelope.Member{ID: c.ID, Key: key, WrapOnly: !c.Opens()}
	}
	ring, err := newRing(d, members)
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	k.Ring = ring
	return k, nil
}

// newRing lists each policy for the cluster, then for each former one: the first seals, all open.
func newRing(d *config.Daemon, members map[string]envelope.Member) (*envelope.Ring, error) {
	var policies []*envelope.Policy
	for _, c := range append([]config.Cluster{d.Cluster}, d.FormerClusters...) {
		cluster := envelope.Cluster{Name: c.Name, Lineage: c.Lineage}
		for _, p := range d.Policies {
			var of []envelope.Member
			for _, name := range p.Keys {
				of = append(of, members[name])
			}
			policy, err := envelope.NewPolicy(cluster, p.Generation, p.Need, of...)
			if err != nil {
				return nil, err
			}
			if policy, err = policy.AtLeast(p.Write.AtLeast); err != nil {
				return nil, err
			}
			policies = append(policies, policy)
		}
	}
	return envelope.NewRing(policies...)
}

// Close closes all keys.
func (k *Keyring) Close() error {
	var errs []error
	for id, key := range k.Keys {
		if err := key.Close(); err != nil {
			errs = append(errs, fmt.Errorf("closing key %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

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
	"time"

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
	return open(ctx, d, log, surround, func(_ config.Key, err error) (keyservice.Key, error) { return nil, err })
}

// OpenEnough opens as Open does, and goes on without a key that does not open, as long as every policy opens without it: the
// loss of one keystore must not keep a daemon from starting that has others. Such a key fails with its reason, which log is told, and
// is tried again when it is called.
func OpenEnough(ctx context.Context, d *config.Daemon, log *slog.Logger, surround func(id string, key keyservice.Key) keyservice.Key) (*Keyring, error) {
	var without []string
	return open(ctx, d, log, surround, func(c config.Key, err error) (keyservice.Key, error) {
		if without = append(without, c.Name); !d.OpensWithout(without) {
			return nil, err
		}
		log := log.With("key", c.ID)
		log.Error("key cannot be opened, going on without it", "error", err, "hint", keyservice.HintOf(err))
		again := context.WithoutCancel(ctx) // it is opened for as long as the daemon runs
		return &absent{open: func() (keyservice.Key, error) { return c.Open(again, log) }, err: err, tried: time.Now()}, nil
	})
}

func open(ctx context.Context, d *config.Daemon, log *slog.Logger, surround func(id string, key keyservice.Key) keyservice.Key,
	failed func(config.Key, error) (keyservice.Key, error),
) (*Keyring, error) {
	k := &Keyring{Keys: make(map[string]keyservice.Key), Pins: make(map[string]keyservice.VersionID)}
	members := make(map[string]envelope.Member) // by the name in the configuration
	for _, c := range d.Keys {
		key, err := c.Open(ctx, log.With("key", c.ID))
		if err != nil {
			key, err = failed(c, err)
		}
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
			if p.Patient {
				policy = policy.Patient()
			}
			policies = append(policies, policy)
		}
	}
	return envelope.NewRing(policies...)
}

// Named returns the key that the configuration, which the Keyring was opened for, calls by that name.
func (k *Keyring) Named(d *config.Daemon, name string) keyservice.Key {
	for _, c := range d.Keys {
		if c.Name == name {
			return k.Keys[c.ID]
		}
	}
	return nil
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

package daemon

import (
	"cmp"
	"context"
	"path/filepath"

	"github.com/trousseau-io/trousseau/internal/coldstart"
	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/kms"
	"github.com/trousseau-io/trousseau/internal/seedstore"
)

// setup returns what the plugin works with.
func (d *daemon) setup(ctx context.Context, c *config.Daemon, keys *keyring.Keyring) (kms.Setup, error) {
	outages := map[config.Outage]kms.Outage{
		config.FailClosed: kms.OutageFailClosed, config.Grace: kms.OutageGrace, config.FailOpen: kms.OutageFailOpen,
	}
	stateDir := cmp.Or(c.StateDir, filepath.Dir(c.Socket.Path))
	s := kms.Setup{
		Ring: keys.Ring, Pins: keys.Pins,
		Hint:   kms.Hint{Path: filepath.Join(stateDir, "announced.json")},
		Outage: outages[c.Status.Outage], Grace: c.Status.Grace,
		ProbeInterval: c.Status.ProbeInterval, ActivationDelay: c.Status.ActivationDelay,
	}
	s.Notice = d.noticed
	var err error
	if c.Cache.Seeds > 0 {
		if s.Cache, err = seedstore.New(c.Cache.Seeds, c.Cache.For); err != nil {
			return kms.Setup{}, err
		}
	}
	if s.ColdStart, err = d.coldStart(ctx, c, keys, stateDir); err != nil && s.Cache != nil {
		s.Cache.Close()
	}
	return s, err
}

// noticed has what the plugin does by itself in the audit log, and counts what it did for a cold start.
func (d *daemon) noticed(n kms.Notice) {
	d.audit.noticed(n)
	switch n.Event {
	case kms.ColdStartWrap:
		d.metrics.coldStarts.WithLabelValues("wrap").Inc()
	case kms.ColdStartOpen:
		d.metrics.coldStarts.WithLabelValues("open").Inc()
	}
}

// coldStart returns what is kept for a cold start, or nil. What is not asked for any more is removed.
func (d *daemon) coldStart(ctx context.Context, c *config.Daemon, keys *keyring.Keyring, dir string) (*coldstart.Store, error) {
	if !c.ColdStart.On() {
		if err := coldstart.Remove(dir); err != nil {
			return nil, &startError{err, "remove what was kept for a cold start: " + filepath.Join(dir, "coldstart.*")}
		}
		return nil, nil
	}
	sealing := envelope.Cluster{Name: c.Cluster.Name, Lineage: c.Cluster.Lineage}
	return coldstart.Open(ctx, coldstart.Config{
		Dir: dir, Key: keys.Named(c, c.ColdStart.SealedBy), Cluster: sealing.String(), Life: c.ColdStart.For, Seeds: c.ColdStart.Seeds,
	}, d.log)
}

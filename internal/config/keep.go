package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// Cache keeps seeds that were sealed or opened lately in memory, so that opening them again calls no key service. It is off by
// default, because a running API server opens each seed once: only API servers that restart often, or KMS v1, which has
// a data key for every object, gain by it. The seeds lie in memory that neither core dumps nor other processes can read
// (memfd_secret, where the kernel has it). A key that is disabled still opens what is cached until its time is over: use
// `trousseau lockdown` where that matters.
type Cache struct {
	// How many seeds are kept, from 1 to 10000; the oldest gives way. 0, the default, caches nothing.
	Seeds int `yaml:"seeds,omitempty" min:"0" max:"10000"`

	// How long a seed is kept after it was last called for at a key service, from 1s to 24h. By default 10m.
	For time.Duration `yaml:"for" default:"10m" min:"1s" max:"24h"`
}

// ColdStart keeps the little on the node's disk that lets an API server start while too few key services answer. It is off
// by default, because it trades safety for it: read docs/operate/cold-start.md first. It takes status.outage grace or
// fail-open, because with fail-closed an API server does not start in an outage, and a stateDir that outlives a reboot.
//
// What it keeps is one spare root, for one new data key: the keys of the policy that seals have wrapped it already, all of them,
// so that what an API server writes in the outage is sealed under the same policy and key id as ever. It is removed from the
// disk before it is used. While no spare root is left, an API server can read and cannot start writing. Only an outage
// counts: a key that is denied, disabled or deleted stops everything as usual.
type ColdStart struct {
	// The name of the key that seals what is kept: one of kind `local` or `tpm`, because it has to open without a network.
	// It may be one that no policy uses. Empty, the default, means that nothing is kept, and what was is removed.
	SealedBy string `yaml:"sealedBy,omitempty"`

	// How long what is kept may be used, from 1m to 168h: a spare root after it was prepared (it is renewed when half of the time is
	// over), a seed after it was last opened. By default 24h.
	For time.Duration `yaml:"for" default:"24h" min:"1m" max:"168h"`

	// How many of the seeds that were sealed or opened lately are kept too, from 1 to 10000, so that an API server can read at
	// its start what it read before. 0, the default, keeps none: then an API server that starts in an outage reads
	// nothing that is encrypted. Who has a copy of the node's disk and the key that seals this opens them without any key
	// service, for as long as the objects in etcd are not written anew.
	Seeds int `yaml:"seeds,omitempty" min:"0" max:"10000"`
}

// On reports whether anything is kept.
func (c *ColdStart) On() bool { return c.SealedBy != "" }

// Validate checks what is of no use alone.
func (c *ColdStart) Validate(report func(field, problem string)) {
	if !c.On() && c.Seeds > 0 {
		report("seeds", "has no effect without sealedBy: name the key that seals them")
	}
}

// validateColdStart checks what a cold start takes from the rest of the document.
func (d *Daemon) validateColdStart(report func(field, problem string)) {
	if !d.ColdStart.On() {
		return
	}
	at := slices.IndexFunc(d.Keys, func(k Key) bool { return k.Name == d.ColdStart.SealedBy })
	switch {
	case at < 0:
		report("coldStart.sealedBy", strictyaml.Quote(d.ColdStart.SealedBy)+" names no key")
	case !d.Keys[at].OnNode():
		report("coldStart.sealedBy", fmt.Sprintf("%q needs a network: name a key of kind local or tpm", d.ColdStart.SealedBy))
	}
	if d.Status.Outage == FailClosed {
		report("coldStart", "has no effect with status.outage: fail-closed, with which no API server starts in an outage: set it to grace or fail-open")
	}
	if d.StateDir == "" {
		report("coldStart", "needs a stateDir that outlives a reboot, such as /var/lib/trousseau")
	}
}

package config

import "time"

// Status says how the daemon watches its keys, and what it tells the API server when too few of them answer.
//
// The API server asks for the status about every 20 seconds and at least once a minute. The daemon answers from
// memory: no key service is called for it. As long as the status is bad, the API server's /readyz fails within about 20
// seconds, so that load balancers take it out of service although it still reads what it opened before; and its writes
// of encrypted resources fail from 3 minutes after the last good status on. Only a restart or a change of key makes a
// running API server call its keys at all, so during an outage a good status keeps a cluster whole that needs no
// new key, and hides that an API server could not restart.
type Status struct {
	// What to tell the API server while too few keys answer because of an outage: their services cannot be reached or
	// limit the rate of calls. `fail-closed` makes the status bad at once. `grace` makes it bad when the outage has
	// lasted for the time in the field grace. `fail-open` never makes it bad for an outage; watch the metrics instead. A
	// key that is denied, disabled or deleted is no outage but somebody's decision, and makes the status bad at once
	// whatever is set here.
	Outage Outage `yaml:"outage" enum:"fail-closed,grace,fail-open" default:"fail-closed"`

	// How long an outage may last before the status is bad, at least 1s. Only with outage: grace, where 30m is the
	// default. An API server that restarts within this time still cannot read before the keys answer.
	Grace time.Duration `yaml:"grace,omitempty" min:"1s"`

	// The time between two probes of a key, from 1s to 10m. A probe reads the versions, then wraps and unwraps a few bytes: three calls to
	// the key service by each node; a shorter time shows an outage sooner and costs more calls.
	ProbeInterval time.Duration `yaml:"probeInterval" default:"30s" min:"1s" max:"10m"`

	// How old a new version of a key must be before it is used to seal, from 0s to 24h. All nodes change over at the same
	// moment, counted from when the key service made the version; until then all of them announce the version before.
	// It must be longer than a probe takes to find the new version on every node, plus how far the nodes' clocks
	// differ. After the change each API server draws a new data key. Set it to the same on all nodes.
	ActivationDelay time.Duration `yaml:"activationDelay" default:"2m" min:"0s" max:"24h"`
}

// Outage is what to tell the API server while too few keys answer.
type Outage string

const (
	FailClosed Outage = "fail-closed" // the status is bad at once
	Grace      Outage = "grace"       // the status is bad after a while
	FailOpen   Outage = "fail-open"   // the status stays good
)

// Validate checks that a grace period is given only where it counts.
func (s *Status) Validate(report func(field, problem string)) {
	if s.Grace != 0 && s.Outage != Grace {
		report("grace", "has no effect with outage: "+string(s.Outage)+": set outage to grace, or remove grace")
	}
}

// grace returns the grace period once the document is complete: zero unless it counts.
func (s *Status) grace() time.Duration {
	if s.Outage == Grace && s.Grace == 0 {
		return 30 * time.Minute
	}
	return s.Grace
}

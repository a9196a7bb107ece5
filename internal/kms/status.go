package kms

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// State is how well the sealing policy works.
type State uint8

const (
	// Full: every key works.
	Full State = iota
	// Readable: not every key works, and enough of them do to open.
	Readable
	// Closed: too few keys work to open.
	Closed
)

var states = [...]string{"full", "readable", "closed"}

func (s State) String() string {
	if int(s) < len(states) {
		return states[s]
	}
	return fmt.Sprintf("state(%d)", s)
}

// Outage says what Status answers while too few key services are reachable. It is about outages alone: a key that was
// disabled, or that refuses the daemon's credentials, fails Status at once, because somebody meant that.
type Outage uint8

const (
	// OutageFailClosed fails Status at once: the API server stops writing within 3 minutes.
	OutageFailClosed Outage = iota
	// OutageGrace fails Status when the outage has lasted for Setup.Grace.
	OutageGrace
	// OutageFailOpen never fails Status: the API server goes on writing under the seed it has.
	OutageFailOpen
)

// Snapshot is the state of a Plugin at one moment.
type Snapshot struct {
	State State
	KeyID string // announced, or ""
	Err   error  // why Status fails, or nil
	Keys  []KeySnapshot
	Spare time.Time // until when a spare root for the announced key id is kept; zero if there is none
}

// KeySnapshot is the state of one key at one moment.
type KeySnapshot struct {
	ID      string
	Seals   bool                 // it belongs to the policy that seals
	Adopted keyservice.VersionID // sealed with, or ""
	Newest  keyservice.VersionID // as last seen, or ""
	Err     error                // why it does not work, or nil
	Missing bool                 // it seals no more, until all keys have answered for a while
	Wrong   uint64               // answers that were wrong
	Since   time.Time            // since when it works, or does not
}

func (s *session) snapshot(now time.Time) Snapshot {
	var snap Snapshot
	if a := s.announced.Load(); a != nil {
		snap.KeyID = a.keyID
	}
	snap.State, snap.Err = s.status(now)
	if s.ColdStart != nil {
		if keyID, until := s.ColdStart.Spare(); keyID != "" && keyID == snap.KeyID {
			snap.Spare = until
		}
	}
	for _, w := range s.watches {
		w.mu.Lock()
		snap.Keys = append(snap.Keys, KeySnapshot{ID: w.id, Seals: w.seals, Adopted: w.current, Newest: w.newest.ID, Err: w.err, Since: w.since, Missing: w.missing, Wrong: w.wrong})
		w.mu.Unlock()
	}
	slices.SortFunc(snap.Keys, func(a, b KeySnapshot) int { return cmp.Compare(a.ID, b.ID) })
	return snap
}

// Ready reports whether Status answers well: a key id is announced and nothing forbids it.
func (s Snapshot) Ready() bool { return s.Err == nil && s.KeyID != "" }

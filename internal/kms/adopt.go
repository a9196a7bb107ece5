package kms

import (
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// sightingsNeeded is how often in a row a version must be seen as the newest before it is adopted, where the service does
// not tell when it was created.
const sightingsNeeded = 3

// sighting counts how often in a row one version was the newest.
type sighting struct {
	id    keyservice.VersionID
	count int
}

func (s sighting) next(id keyservice.VersionID) sighting {
	if s.id != id {
		return sighting{id, 1}
	}
	return sighting{id, s.count + 1}
}

// choose returns the version to seal with.
//
// A new version is adopted at its creation plus the delay: the same wall-clock moment on every node, so that all announce
// one key id. Until then it is the previous one, also for a daemon that has just started. What was adopted stays while
// the service shows nothing newer: a replica that lags or a restored backup must not bring an old key id back.
func choose(adopted, newest, previous keyservice.Version, pin keyservice.VersionID, now time.Time, delay time.Duration, seen sighting) keyservice.Version {
	if pin != "" {
		return pinned(pin, newest, previous)
	}
	due := func(v keyservice.Version) bool {
		if v.Created.IsZero() {
			return v.ID == newest.ID && seen.count >= sightingsNeeded
		}
		return !now.Before(v.Created.Add(delay))
	}
	usable := func(v keyservice.Version) bool { return v.ID != "" && v.State == keyservice.StateEnabled }

	var choice keyservice.Version
	switch {
	case !usable(newest) && usable(previous):
		choice = previous
	case due(newest) || !usable(previous):
		choice = newest
	case adopted.ID != "" && !due(previous):
		choice = adopted
	default:
		choice = previous
	}
	if adopted.ID == "" || choice.ID == adopted.ID {
		return choice
	}
	older := choice.ID == previous.ID && adopted.ID == newest.ID ||
		!choice.Created.IsZero() && choice.Created.Before(adopted.Created)
	if older {
		return adopted
	}
	return choice
}

func pinned(pin keyservice.VersionID, known ...keyservice.Version) keyservice.Version {
	for _, v := range known {
		if v.ID == pin {
			return v
		}
	}
	return keyservice.Version{ID: pin}
}

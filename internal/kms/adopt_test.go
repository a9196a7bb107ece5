package kms

import (
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Inside the package: choose is the whole rule of adoption, and a pure function.
func TestChoose(t *testing.T) {
	const delay = 2 * time.Minute
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	at := func(id keyservice.VersionID, age time.Duration) keyservice.Version {
		return keyservice.Version{ID: id, Created: now.Add(-age)}
	}
	undated := func(id keyservice.VersionID) keyservice.Version { return keyservice.Version{ID: id} }
	off := func(v keyservice.Version, state keyservice.State) keyservice.Version { v.State = state; return v }
	none := keyservice.Version{}

	tests := []struct {
		name                      string
		adopted, newest, previous keyservice.Version
		pin                       keyservice.VersionID
		seen                      int
		want                      keyservice.VersionID
	}{
		{"first start", none, at("v1", time.Hour), none, "", 1, "v1"},
		{"first start with a key made just now", none, at("v1", 0), none, "", 1, "v1"},
		{"started just after a rotation", none, at("v2", time.Minute), at("v1", time.Hour), "", 1, "v1"},
		{"started long after a rotation", none, at("v2", time.Hour), at("v1", 2*time.Hour), "", 1, "v2"},
		{"rotated a moment ago", at("v1", time.Hour), at("v2", time.Second), at("v1", time.Hour), "", 1, "v1"},
		{"exactly at the delay", at("v1", time.Hour), at("v2", delay), at("v1", time.Hour), "", 1, "v2"},
		{"created in the future", at("v1", time.Hour), at("v2", -time.Hour), at("v1", time.Hour), "", 1, "v1"},
		{"rotated twice within the delay", at("v1", time.Hour), at("v3", time.Second), at("v2", time.Minute), "", 1, "v1"},
		{"rotated twice, the first is due", at("v1", time.Hour), at("v3", time.Second), at("v2", time.Hour/2), "", 1, "v2"},
		{"the clock jumped back", at("v2", -time.Hour), at("v2", -time.Hour), at("v1", time.Hour), "", 1, "v2"},
		{"a lagging replica shows the old one", at("v2", time.Hour), at("v1", 2*time.Hour), none, "", 1, "v2"},
		{"a restored backup shows the old one", at("v3", time.Hour), at("v2", 2*time.Hour), at("v1", 3*time.Hour), "", 9, "v3"},
		{"made again under its name", at("v3", time.Hour), at("w1", delay), none, "", 1, "w1"},
		{"the newest is disabled, fresh start", none, off(at("v2", time.Hour), keyservice.StateDisabled), at("v1", 2*time.Hour), "", 1, "v1"},
		{"the adopted one is disabled", at("v2", time.Hour), off(at("v2", time.Hour), keyservice.StateDisabled), at("v1", 2*time.Hour), "", 1, "v2"},
		{"the old one cannot wrap any more", at("v1", time.Hour), at("v2", 0), off(at("v1", time.Hour), keyservice.StateOpenOnly), "", 1, "v2"},
		{"undated, seen once", undated("v1"), undated("v2"), undated("v1"), "", 1, "v1"},
		{"undated, seen often enough", undated("v1"), undated("v2"), undated("v1"), "", sightingsNeeded, "v2"},
		{"undated, already adopted, counting anew", undated("v2"), undated("v2"), undated("v1"), "", 1, "v2"},
		{"pinned to the previous", at("v2", time.Hour), at("v2", time.Hour), at("v1", 2*time.Hour), "v1", 9, "v1"},
		{"pinned to one that is not shown", at("v9", time.Hour), at("v9", time.Hour), at("v8", 2*time.Hour), "v3", 9, "v3"},
	}
	for _, test := range tests {
		got := choose(test.adopted, test.newest, test.previous, test.pin, now, delay, sighting{test.newest.ID, test.seen})
		if got.ID != test.want {
			t.Errorf("%s: %q, want %q", test.name, got.ID, test.want)
		}
	}
}

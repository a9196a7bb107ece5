package check

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	// rotateAfter is the age at which a version should have a successor: what Kubernetes' documentation advises.
	rotateAfter = 90 * 24 * time.Hour
	// maxSkew is how far in the future a version may have been made before a clock must be wrong.
	maxSkew = time.Minute
)

// key tries one key, and lets it look at itself.
func (r *report) key(ctx context.Context, c config.Key, key keyservice.Key) {
	bounded := keyservice.With(key, keyservice.Timeout(r.Timeout))
	where := placeOf(c)
	newest, previous, err := bounded.Versions(ctx)
	if err != nil {
		r.failed("key-versions", where, err, "see docs/keyservices/"+c.Type()+".md")
	} else {
		r.versions(where, c, newest, previous)
	}
	switch took, err := roundTrip(ctx, bounded, sealingVersion(c, newest, previous), c.Opens()); {
	case err != nil:
		r.failed("key-round-trip", where, err, "see docs/keyservices/"+c.Type()+".md")
	case !c.Opens():
		r.add("key-round-trip", finding.OK, where, fmt.Sprintf("wrapped a secret in %s; whether it opens is seen elsewhere", took), "")
	default:
		r.add("key-round-trip", finding.OK, where, fmt.Sprintf("wrapped and unwrapped a secret in %s", took), "")
	}
	r.inspect(ctx, where, c, key)
}

// placeOf names a key as findings about it do.
func placeOf(c config.Key) string { return fmt.Sprintf("key %s (%s)", c.Name, c.ID) }

// sealingVersion is the version that a round trip must prove: the pinned one, or the newest that already may be used. A
// version that is made ahead of its time may not be on all nodes yet.
func sealingVersion(c config.Key, newest, previous keyservice.Version) keyservice.VersionID {
	if c.Version != "" {
		return c.Version
	}
	if newest.Created.After(time.Now()) && previous.ID != "" {
		return previous.ID
	}
	return newest.ID
}

func (r *report) versions(where string, c config.Key, newest, previous keyservice.Version) {
	what := fmt.Sprintf("newest version %s, %s", newest.ID, age(newest))
	if previous.ID != "" {
		what += fmt.Sprintf("; before it %s, %s", previous.ID, age(previous))
	}
	r.add("key-versions", finding.OK, where, what, "")
	now := time.Now()
	switch {
	case newest.State != keyservice.StateEnabled && c.Version == "":
		r.add("key-newest-disabled", finding.Warning, where, fmt.Sprintf("the newest version is %s", newest.State),
			"enable it, or set version in the configuration to one that is enabled")
	case newest.Created.After(now.Add(maxSkew)) && !c.OnNode():
		r.add("key-clock", finding.Warning, where, fmt.Sprintf("the newest version will be made in %s: a clock is wrong",
			newest.Created.Sub(now).Round(time.Second)), "set the clocks of this host and of the key service (NTP)")
	case newest.Created.After(now):
		r.add("key-pending", finding.Info, where, fmt.Sprintf("the newest version will be used from %s on",
			newest.Created.Add(r.config.Status.ActivationDelay).Format(time.RFC3339)), "copy the keystore to every node before that")
	case !newest.Created.IsZero() && now.Sub(newest.Created) > rotateAfter:
		r.add("key-old", finding.Info, where, "the newest version is older than 90 days", "rotate the key")
	}
	if c.Version != "" && c.Version != newest.ID {
		r.add("key-pinned", finding.Info, where, fmt.Sprintf("the configuration seals with version %s, which is not the newest", c.Version),
			"remove version from the key to seal with the newest")
	}
}

// roundTrip wraps as much as an envelope's root has, and unwraps it if the key opens.
func roundTrip(ctx context.Context, key keyservice.Key, version keyservice.VersionID, opens bool) (time.Duration, error) {
	secret, aad := make([]byte, 32), []byte("trousseau check")
	rand.Read(secret)
	start := time.Now()
	wrapped, err := key.Wrap(ctx, version, secret, aad)
	if err != nil || !opens {
		return time.Since(start).Round(10 * time.Microsecond), err
	}
	got, err := key.Unwrap(ctx, wrapped, aad)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(got, secret) {
		return 0, &keyservice.Error{Kind: keyservice.Corrupt, Op: "unwrapping", Err: fmt.Errorf("%d other bytes came back", len(got)),
			Hint: "what answers is not the key service that wrapped: look at its address"}
	}
	return time.Since(start).Round(10 * time.Microsecond), nil
}

// inspect adds what the key finds out about itself. It has no deadline of its own for each call, so it gets one here.
func (r *report) inspect(ctx context.Context, where string, c config.Key, key keyservice.Key) {
	inspector, ok := key.(keyservice.Inspector)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*r.Timeout)
	defer cancel()
	found, err := inspector.Inspect(ctx)
	if err != nil && !r.has(where) { // the same was just said of its versions
		r.failed("key-inspection", where, err, "see docs/keyservices/"+c.Type()+".md")
	}
	for _, f := range found {
		if f.Where == c.ID {
			f.Where = where
		}
		r.found = append(r.found, f)
	}
}

// has reports whether an error was found there.
func (r *report) has(where string) bool {
	for _, f := range r.found {
		if f.Where == where && f.Severity == finding.Error {
			return true
		}
	}
	return false
}

// age says how old a version is, in words.
func age(v keyservice.Version) string {
	if v.Created.IsZero() {
		return "made at a time that is not known"
	}
	switch d := time.Since(v.Created); {
	case d < 0:
		return "to be used from " + v.Created.Format(time.RFC3339)
	case d < time.Minute:
		return "made just now"
	case d < time.Hour:
		return "made " + count(int(d.Minutes()), "minute", "minutes") + " ago"
	case d < 48*time.Hour:
		return "made " + count(int(d.Hours()), "hour", "hours") + " ago"
	default:
		return fmt.Sprintf("made %d days ago", int(d.Hours()/24))
	}
}

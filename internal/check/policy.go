package check

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	// maxCiphertext is what KMS v2 stores of an envelope beside each object; the rest goes into an annotation.
	maxCiphertext = 1024
	// seedSize is what an API server has wrapped.
	seedSize = 32
)

// policies says what each policy withstands.
func (r *report) policies() {
	for i, p := range r.config.Policies {
		role := "opens"
		if i == 0 {
			role = "seals and opens"
		}
		r.add("policy", finding.Info, fmt.Sprintf("policy %d", i+1), fmt.Sprintf("%s: %s", role, r.withstands(p)), "")
	}
}

// withstands describes a policy of one key. Without that key nothing is read or written; with it everything is.
func (r *report) withstands(p config.Policy) string {
	var of config.Key
	for _, k := range r.config.Keys {
		if k.Name == p.Keys[0] {
			of = k
		}
	}
	if of.OnNode() {
		return fmt.Sprintf("1 of 1 with %s. Needs no server. Every API server that starts, and every change of key, needs the keystore; "+
			"a running one does not. Who has the keystore, what opens it and etcd's data reads everything.", of.Name)
	}
	return fmt.Sprintf("1 of 1 with %s. While its key service is away no API server can start, and running ones read on; %s. "+
		"Who takes the key service over and has etcd's data reads everything.", of.Name, r.writes())
}

// writes says what becomes of writes in an outage, which is what status.outage chooses.
func (r *report) writes() string {
	const closed = "their /readyz fails and writes stop 3 minutes later"
	switch s := r.config.Status; s.Outage {
	case config.FailOpen:
		return "they write on as well (status.outage: fail-open)"
	case config.Grace:
		return fmt.Sprintf("they write on for %s, then %s (status.outage: grace)", s.Grace, closed)
	}
	return closed + " (status.outage: fail-closed)"
}

// envelope seals what an API server would have sealed, and measures and opens it.
func (r *report) envelope(ctx context.Context, keys *keyring.Keyring) {
	ctx, cancel := context.WithTimeout(ctx, 2*r.Timeout)
	defer cancel()
	policy := keys.Ring.Sealing()
	versions, err := sealingVersions(ctx, r.config, policy)
	if err != nil {
		return // said of the key already
	}
	seed := make([]byte, seedSize)
	rand.Read(seed)
	e, err := policy.Seal(ctx, versions, seed)
	if err != nil {
		return
	}
	const where = "envelope"
	ciphertext, spilled, err := e.Marshal(maxCiphertext)
	if err != nil {
		r.failed("envelope-size", where, err, "use keys with shorter ciphertexts, or fewer of them")
		return
	}
	keyID := policy.KeyID(e.Versions())
	if got, err := keys.Ring.Open(ctx, e, keyID); err != nil {
		r.failed("envelope-open", where, err, "see the findings about its keys")
		return
	} else if !bytes.Equal(got, seed) {
		r.add("envelope-open", finding.Error, where, "it opened to something else than was sealed", "report this: it must not happen")
		return
	}
	stored := len(ciphertext) + len(spilled) + len(keyID)
	r.add("envelope-size", finding.OK, where, fmt.Sprintf("takes %d of the %d bytes that KMS v2 allows; each object grows by %d bytes with the key id",
		len(ciphertext), maxCiphertext, stored), "")
	if spilled != nil {
		r.add("envelope-spills", finding.Warning, where, fmt.Sprintf("%d more bytes are stored in an annotation of each object", len(spilled)),
			"use keys with shorter ciphertexts, or fewer of them")
	}
}

// sealingVersions returns the version of each key of a policy that would seal now, by slot.
func sealingVersions(ctx context.Context, d *config.Daemon, policy *envelope.Policy) ([]keyservice.VersionID, error) {
	var versions []keyservice.VersionID
	for _, m := range policy.Members() {
		newest, previous, err := m.Key.Versions(ctx)
		if err != nil {
			return nil, err
		}
		versions = append(versions, sealingVersion(keyOf(d, m.ID), newest, previous))
	}
	return versions, nil
}

func keyOf(d *config.Daemon, id string) config.Key {
	for _, k := range d.Keys {
		if k.ID == id {
			return k
		}
	}
	return config.Key{ID: id}
}

// expected returns the key ids that a daemon with this configuration may announce now: it may have adopted the newest
// version or still be with the one before.
func expected(ctx context.Context, timeout time.Duration, keys *keyring.Keyring) (ids []string) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	policy := keys.Ring.Sealing()
	member := policy.Members()[0]
	newest, previous, err := member.Key.Versions(ctx)
	if err != nil {
		return nil
	}
	for _, v := range []keyservice.VersionID{keys.Pins[member.ID], newest.ID, previous.ID} {
		if v != "" {
			ids = append(ids, policy.KeyID([]keyservice.VersionID{v}))
		}
	}
	return ids
}

package check

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/kmsclient"
)

const (
	// maxCiphertext is what KMS v2 stores of an envelope beside each object; the rest goes into an annotation.
	maxCiphertext = 1024
	// seedSize is what an API server has wrapped.
	seedSize = 32
)

// policies says what each policy withstands, and which ones anybody can make envelopes for.
func (r *report) policies() {
	for i, p := range r.config.Policies {
		where, role := policyPlace(i), "opens"
		if i == 0 {
			role = "seals and opens"
		}
		r.add("policy", finding.Info, where, fmt.Sprintf("%s: %s", role, r.withstands(p)), "")
		if public := r.public(p); len(public) >= p.Need {
			r.add("policy-unauthenticated", finding.Warning, where, fmt.Sprintf("%d of its keys wrap with public keys (%s), and %d open: "+
				"who can write to etcd can make values that open", len(public), strings.Join(public, ", "), p.Need),
				"use symmetric keys, so that fewer than need wrap with public ones")
		}
	}
}

// policyPlace names a policy, by its index, as findings about it do.
func policyPlace(i int) string { return fmt.Sprintf("policy %d", i+1) }

// public returns which keys of a policy were found to wrap with public keys.
func (r *report) public(p config.Policy) (names []string) {
	for _, k := range r.keysOf(p) {
		for _, f := range r.found {
			if f.Rule == "key-unauthenticated" && f.Where == placeOf(k) {
				names = append(names, k.Name)
			}
		}
	}
	return names
}

func (r *report) keysOf(p config.Policy) (keys []config.Key) {
	for _, k := range r.config.Keys {
		if slices.Contains(p.Keys, k.Name) {
			keys = append(keys, k)
		}
	}
	return keys
}

// withstands says in words what a policy withstands: how many keys may be away, and how many taken over.
func (r *report) withstands(p config.Policy) string {
	keys := r.keysOf(p)
	if len(keys) == 1 && keys[0].OnNode() {
		return fmt.Sprintf("1 of 1 with %s. Needs no server. Every API server that starts, and every change of key, needs the keystore; "+
			"a running one does not. Who has the keystore, what opens it and etcd's data reads everything.", keys[0].Name)
	}
	if len(keys) == 1 {
		return fmt.Sprintf("1 of 1 with %s. While its key service is away no API server can start, and running ones read on; %s. "+
			"Who takes the key service over and has etcd's data reads everything.", keys[0].Name, r.writes())
	}
	var names, only []string
	for _, k := range keys {
		if names = append(names, k.Name); !k.Opens() {
			only = append(only, k.Name)
		}
	}
	text := fmt.Sprintf("%d of %d with %s. ", p.Need, len(keys), strings.Join(names, ", "))
	if only != nil {
		text += fmt.Sprintf("%s only wraps, for recovery by a person. ", strings.Join(only, ", "))
	}
	text += fmt.Sprintf("Reading goes on with %s. With %s, no API server can start, and running ones read on; %s. ",
		missing(len(keys)-len(only)-p.Need), missing(len(keys)-len(only)-p.Need+1), r.writes())
	text += fmt.Sprintf("An API server starts, and a change of key is made, with %s. ", missing(len(keys)-p.Write.AtLeast))
	if p.Need == 1 {
		return text + "Who takes over any one of them and has etcd's data reads everything."
	}
	return text + fmt.Sprintf("Who takes over %d of them and has etcd's data reads everything; who takes over fewer learns nothing.", p.Need)
}

// missing says how many keys are away.
func missing(n int) string {
	switch n {
	case 0:
		return "no key away"
	case 1:
		return "any 1 key away"
	}
	return fmt.Sprintf("any %d keys away", n)
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

// probe is a seed as a daemon would seal it.
type probe struct {
	seed   []byte
	sealed kmsclient.Sealed
}

// envelopes seals under each policy what an API server would have sealed, and measures and opens it. It returns what it
// sealed by policy, nil where that was not possible.
func (r *report) envelopes(ctx context.Context, keys *keyring.Keyring) []*probe {
	probes := make([]*probe, len(r.config.Policies))
	if keys == nil {
		return probes
	}
	for i := range probes { // the ring has those of former clusters behind them
		probes[i] = r.envelope(ctx, policyPlace(i), keys.Ring, keys.Ring.Policies()[i])
	}
	return probes
}

func (r *report) envelope(ctx context.Context, where string, ring *envelope.Ring, policy *envelope.Policy) *probe {
	ctx, cancel := context.WithTimeout(ctx, 2*r.Timeout)
	defer cancel()
	seed := make([]byte, seedSize)
	rand.Read(seed)
	e, err := policy.Seal(ctx, sealingVersions(ctx, r.config, policy), seed)
	if err != nil {
		return nil // said of the key already
	}
	ciphertext, spilled, err := e.Marshal(maxCiphertext)
	if err != nil {
		r.failed("envelope-size", where, err, "use keys with shorter ciphertexts, or fewer of them")
		return nil
	}
	sealed := kmsclient.Sealed{Ciphertext: ciphertext, KeyID: policy.KeyID(e.Versions())}
	if spilled != nil {
		sealed.Annotations = map[string][]byte{envelope.SharesAnnotation: spilled}
	}
	if got, err := ring.Open(ctx, e, sealed.KeyID); err != nil {
		r.failed("envelope-open", where, err, "see the findings about its keys")
		return nil
	} else if !bytes.Equal(got, seed) {
		r.add("envelope-open", finding.Error, where, "it opened to something else than was sealed", "report this: it must not happen")
		return nil
	}
	r.add("envelope-size", finding.OK, where, fmt.Sprintf("takes %d of the %d bytes that KMS v2 allows; each object grows by %d bytes with the key id",
		len(ciphertext), maxCiphertext, sealed.Size()), "")
	if spilled != nil {
		r.add("envelope-spills", finding.Warning, where, fmt.Sprintf("%d more bytes are stored in an annotation of each object", len(spilled)),
			"use keys with shorter ciphertexts, or fewer of them")
	}
	return &probe{seed, sealed}
}

// sealingVersions returns the version of each key of a policy that would seal now, by slot; "" for a key that does not tell.
func sealingVersions(ctx context.Context, d *config.Daemon, policy *envelope.Policy) []keyservice.VersionID {
	versions := make([]keyservice.VersionID, len(policy.Members()))
	for slot, m := range policy.Members() {
		if newest, previous, err := m.Key.Versions(ctx); err == nil {
			versions[slot] = sealingVersion(keyOf(d, m.ID), newest, previous)
		}
	}
	return versions
}

func keyOf(d *config.Daemon, id string) config.Key {
	for _, k := range d.Keys {
		if k.ID == id {
			return k
		}
	}
	return config.Key{ID: id}
}

package envelope

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// Why a well-formed envelope is refused.
var (
	// ErrCluster says that it belongs to a cluster that is not listed.
	ErrCluster = errors.New("envelope of another cluster")
	// ErrPolicy says that no listed policy has its generation, keys and k.
	ErrPolicy = errors.New("envelope of a policy that is not listed")
	// ErrKeyID says that it is stored under a key id that is not its own.
	ErrKeyID = errors.New("key id does not belong to this envelope")
	// ErrShare says that a key answered with another share than it was given.
	ErrShare = errors.New("it answers with another share than it was given")
	// ErrForged says that its keys opened and its seal did not: a byte changed, or somebody put it together.
	ErrForged = errors.New("envelope was changed after it was sealed")
)

// Ring is the closed set of policies under which envelopes may be opened. The first one seals.
type Ring struct {
	// Blame is told of a key that answered wrong, while others opened an envelope without it. It may be nil, is called
	// concurrently, and is set before the first Open.
	Blame func(id string, err error)

	policies  []*Policy
	latencies map[string]*latency // by key id
}

// NewRing returns the ring of at least one policy. Two equal policies are refused.
func NewRing(policies ...*Policy) (*Ring, error) {
	if len(policies) == 0 {
		return nil, errors.New("making a ring: no policy")
	}
	seen := make(map[[32]byte]bool)
	r := &Ring{policies: policies, latencies: make(map[string]*latency)}
	for _, p := range policies {
		for _, m := range p.members {
			r.latencies[m.ID] = new(latency)
		}
		if seen[p.hash] {
			return nil, fmt.Errorf("making a ring: the policy of generation %d, %s, is listed twice", p.generation, p)
		}
		seen[p.hash] = true
	}
	return r, nil
}

// Sealing returns the policy that seals.
func (r *Ring) Sealing() *Policy { return r.policies[0] }

// Policies returns all policies, the sealing one first. The caller must not change the slice.
func (r *Ring) Policies() []*Policy { return r.policies }

// PolicyOf returns the listed policy that e claims to be sealed under. Its errors are ErrCluster and ErrPolicy.
func (r *Ring) PolicyOf(e *Envelope) (*Policy, error) {
	known := false
	for _, p := range r.policies {
		if p.sealed(e) {
			return p, nil
		}
		known = known || p.cluster.tag() == e.ClusterTag
	}
	if !known {
		return nil, refuse(fmt.Errorf("%w: its cluster tag is %x, this cluster is %s with tag %x",
			ErrCluster, e.ClusterTag, r.Sealing().cluster.Name, r.Sealing().cluster.tag()),
			"if the data was restored from that cluster, list it under formerClusters; otherwise it was put here by somebody")
	}
	return nil, refuse(fmt.Errorf("%w: its policy tag is %x, %d of %d", ErrPolicy, e.PolicyTag, e.Need, e.Keys),
		"list the policy that sealed it, with its keys, need and generation, under policies after the first")
}

// Open returns the plaintext of e. keyID is the name that e was stored under, "" where none is stored (KMS v1). Beside
// what PolicyOf returns, its errors are ErrKeyID, ErrForged and those of the key services. The caller wipes the plaintext.
func (r *Ring) Open(ctx context.Context, e *Envelope, keyID string) ([]byte, error) {
	p, err := r.PolicyOf(e)
	if err != nil {
		return nil, err
	}
	if own := p.KeyID(e.Versions()); keyID != "" && keyID != own {
		return nil, refuse(fmt.Errorf("%w: stored under %q, sealed under %q", ErrKeyID, keyID, own),
			"the value in etcd was put together from two; restore the object from a backup")
	}
	var plaintext []byte
	err = r.gather(ctx, p, e, func(root []byte) (err error) {
		plaintext, err = p.open(e, root)
		return err
	})
	return plaintext, err
}

func (p *Policy) open(e *Envelope, root []byte) (plaintext []byte, err error) {
	header, err := e.authenticated()
	if err != nil {
		return nil, forged(p, err)
	}
	secretmem.Do(func() {
		var aead cipher.AEAD
		if aead, err = p.contentCipher(root); err == nil {
			plaintext, err = aead.Open(nil, make([]byte, aead.NonceSize()), e.Seal, header)
		}
	})
	if err != nil {
		return nil, forged(p, err)
	}
	return plaintext, nil
}

func forged(p *Policy, cause error) error {
	return &keyservice.Error{
		Kind: keyservice.Corrupt, Op: "opening", Err: fmt.Errorf("%w (%s): %w", ErrForged, p, cause),
		Hint: "restore the object from a backup, and find out who can write to etcd",
	}
}

func refuse(err error, hint string) error {
	return &keyservice.Error{Kind: keyservice.Invalid, Op: "opening", Err: err, Hint: hint}
}

package envelope

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Labels keep the hashes and derivations of the format apart from one another.
const (
	labelCluster = "trs1 cluster"
	labelPolicy  = "trs1 policy"
	labelKeyID   = "trs1 key id"
	labelShare   = "trs1 share"
	labelContent = "trs1 content"
)

// Cluster is whose secrets an envelope holds.
type Cluster struct {
	Name    string   // 1 to 63 bytes
	Lineage [16]byte // random, fixed when the cluster is set up: a name alone may be given twice
}

func (c Cluster) String() string { return c.Name + "/" + hex.EncodeToString(c.Lineage[:]) }

func (c Cluster) add(b *cryptobyte.Builder) {
	addString(b, c.Name)
	b.AddBytes(c.Lineage[:])
}

func (c Cluster) tag() [4]byte {
	hash := hashOf(labelCluster, c.add)
	return [4]byte(hash[:])
}

// Member is one key of a policy.
type Member struct {
	ID  string // 1 to 255 bytes; the same on every node, for as long as the data lives
	Key keyservice.Key

	// WrapOnly says that the key opens elsewhere, by a person: it gets a share and is never asked for it.
	WrapOnly bool
}

// Policy says which keys hold a share of what is sealed, and how many of them open it. It does not change.
type Policy struct {
	cluster    Cluster
	generation uint32
	need       int
	atLeast    int      // shares in what is sealed, need to len(members)
	patient    bool     // no key is passed over because it is slow
	members    []Member // by id; the index is the slot
	turns      []int    // by slot: the member's place in the order in which NewPolicy got them
	hash       [sha256.Size]byte
}

// NewPolicy returns the policy of a cluster that opens with need of the members. The order of members matters to Patient alone.
// All members take part in sealing, unless AtLeast says otherwise.
func NewPolicy(cluster Cluster, generation uint32, need int, members ...Member) (*Policy, error) {
	if len(members) < 1 || len(members) > MaxKeys || need < 1 || need > len(members) {
		return nil, fmt.Errorf("making a policy of %d of %d keys: up to %d are possible, and as many may be needed", need, len(members), MaxKeys)
	}
	if n := len(cluster.Name); n < 1 || n > 63 {
		return nil, fmt.Errorf("making a policy: the cluster's name has %d bytes, allowed are 1 to 63", n)
	}
	openers := 0
	for _, m := range members {
		if len(m.ID) == 0 || len(m.ID) > 255 || m.Key == nil {
			return nil, fmt.Errorf("making a policy: a key has an id of %d bytes", len(m.ID))
		}
		if !m.WrapOnly {
			openers++
		}
	}
	if openers < need {
		return nil, fmt.Errorf("making a policy of %d of %d keys: only %d of them can open", need, len(members), openers)
	}
	p := &Policy{cluster: cluster, generation: generation, need: need, atLeast: len(members), members: slices.Clone(members)}
	slices.SortFunc(p.members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	for i := range p.members {
		if i > 0 && p.members[i].ID == p.members[i-1].ID {
			return nil, fmt.Errorf("making a policy: key %s is there twice", p.members[i].ID)
		}
	}
	for _, m := range p.members {
		p.turns = append(p.turns, slices.IndexFunc(members, func(given Member) bool { return given.ID == m.ID }))
	}
	p.hash = hashOf(labelPolicy, func(b *cryptobyte.Builder) {
		cluster.add(b)
		b.AddUint32(generation)
		b.AddUint8(uint8(need))
		b.AddUint8(uint8(len(p.members)))
		for _, m := range p.members {
			addString(b, m.ID)
		}
	})
	return p, nil
}

// AtLeast returns the same policy, that seals while no more of its keys are missing than leave that many, from need to all.
func (p *Policy) AtLeast(shares int) (*Policy, error) {
	if shares < p.need || shares > len(p.members) {
		return nil, fmt.Errorf("sealing with at least %d of %d keys, %d of which open: write at least as many shares as open", shares, len(p.members), p.need)
	}
	same := *p
	same.atLeast = shares
	return &same, nil
}

// Patient returns the same policy, whose keys are asked in the order in which NewPolicy got them, and a further one only when
// one fails, or gives no answer in a third of the time that is left. A key that failed lately is asked last.
func (p *Policy) Patient() *Policy {
	same := *p
	same.patient = true
	return &same
}

// Seals reports whether the keys that have a version, by slot, are enough to seal.
func (p *Policy) Seals(versions []keyservice.VersionID) bool {
	take := 0
	for _, v := range versions {
		if v != "" {
			take++
		}
	}
	return take >= p.atLeast
}

// Cluster returns whose envelopes the policy seals and opens.
func (p *Policy) Cluster() Cluster { return p.cluster }

// String names the policy for people: "2 of 3: bao, eu, hsm".
func (p *Policy) String() string {
	var ids []string
	for _, m := range p.members {
		ids = append(ids, m.ID)
	}
	return fmt.Sprintf("%d of %d: %s", p.need, len(ids), strings.Join(ids, ", "))
}

// Generation returns the number that makes otherwise equal policies different.
func (p *Policy) Generation() uint32 { return p.generation }

// Need returns how many members open an envelope.
func (p *Policy) Need() int { return p.need }

// AtLeastKeys returns how many members have to take part in sealing.
func (p *Policy) AtLeastKeys() int { return p.atLeast }

// Members returns the keys by slot. The caller must not change the slice.
func (p *Policy) Members() []Member { return p.members }

// Hash returns the SHA-256 that stands for cluster, generation, need and key ids.
func (p *Policy) Hash() [sha256.Size]byte { return p.hash }

// KeyID returns the name, 30 characters, that Kubernetes stores beside what the given versions seal: "t1." and 20 bytes
// of SHA-256 in base64url over the policy and the versions. versions are by slot, "" where a key takes no part.
func (p *Policy) KeyID(versions []keyservice.VersionID) string {
	hash := hashOf(labelKeyID, func(b *cryptobyte.Builder) {
		b.AddBytes(p.hash[:])
		for slot, version := range versions {
			if version != "" {
				b.AddUint8(uint8(slot))
				addString(b, string(version))
			}
		}
	})
	return "t1." + base64.RawURLEncoding.EncodeToString(hash[:20])
}

// shareAAD is what a key service binds to the share in a slot. The version is not in it: some services choose it.
func (p *Policy) shareAAD(slot int) []byte {
	var b cryptobyte.Builder
	addString(&b, labelShare)
	p.cluster.add(&b)
	b.AddBytes(p.hash[:])
	b.AddUint8(uint8(slot))
	return b.BytesOrPanic()
}

// contentInfo is HKDF's info for the key that seals the plaintext.
func (p *Policy) contentInfo() string {
	var b cryptobyte.Builder
	addString(&b, labelContent)
	p.cluster.add(&b)
	b.AddBytes(p.hash[:])
	return string(b.BytesOrPanic())
}

// sealed reports whether e claims to be sealed under p: same cluster, generation, need and keys.
func (p *Policy) sealed(e *Envelope) bool {
	clusterTag := p.cluster.tag()
	return e.ClusterTag == clusterTag && bytes.Equal(e.PolicyTag[:], p.hash[:8]) &&
		int(e.Need) == p.need && int(e.Keys) == len(p.members)
}

// hashOf returns the SHA-256 of a label and what add adds. It panics if add adds a string of over 255 bytes, which
// constructors keep out.
func hashOf(label string, add func(*cryptobyte.Builder)) [sha256.Size]byte {
	var b cryptobyte.Builder
	addString(&b, label)
	add(&b)
	return sha256.Sum256(b.BytesOrPanic())
}

package config

import (
	"fmt"
	"slices"
)

// Policy says which keys take part in sealing, and how many of them open.
type Policy struct {
	// The names of the keys, 1 to 8. Each holds a share of what is sealed.
	Keys []string `yaml:"keys" required:"true" max:"8"`

	// How many of the keys are needed to open, from 1 to the number of keys. 0, the default, means all of them. With fewer,
	// some key services may be away, or lost; who takes over that many of them, and has etcd's data, reads everything.
	Need int `yaml:"need" min:"0" max:"8"`

	// How many of the keys have to take part when something is sealed. By default all of them.
	Write Write `yaml:"write"`

	// Whether slow keys are waited for. By default the keys that answered fastest lately are asked to open, and another one as
	// soon as one takes longer than it usually does. A patient policy asks its keys in the order in which they are listed,
	// and a further one only when one fails, or gives no answer for a second. That makes fewer calls to services that
	// charge for each: list those last. Opening is then as slow as the slowest of those that are listed first. Neither this
	// field nor the order is part of the key id; both may differ between nodes.
	Patient bool `yaml:"patient,omitempty"`

	// A number that is part of the key id. Raising it gives what is sealed from then on another key id without another
	// key, so that a rewrite of everything can be seen to be complete. The policy with the earlier number stays listed,
	// behind the new one, until then. Set it to the same number on all nodes.
	Generation uint32 `yaml:"generation,omitempty"`
}

// Validate checks the policy by itself.
func (p *Policy) Validate(report func(field, problem string)) {
	for i, name := range p.Keys {
		if first := slices.Index(p.Keys, name); first < i {
			report(fmt.Sprintf("keys[%d]", i), fmt.Sprintf("%q is there twice: one key counts once", name))
		}
	}
	if p.Need > len(p.Keys) {
		report("need", fmt.Sprintf("must be at most %d, the number of keys", len(p.Keys)))
	}
	switch m := p.Write.AtLeast; {
	case m > len(p.Keys):
		report("write.atLeast", fmt.Sprintf("must be at most %d, the number of keys", len(p.Keys)))
	case m != 0 && m < p.need():
		report("write.atLeast", fmt.Sprintf("must be at least %d, the number of keys that open: fewer shares would never open", p.need()))
	}
}

// Write says how many keys have to take part when something is sealed.
type Write struct {
	// The number of keys, from need to all of them; 0, the default, means all. A running API server has nothing sealed unless
	// the key id changes, so a key that is missing alone stops no write. An API server that starts does: with all, one
	// missing key keeps it from starting; with fewer, it starts, and what it writes then is sealed without the missing keys,
	// under another key id, until all keys have answered for 10 minutes.
	AtLeast int `yaml:"atLeast" min:"0" max:"8"`
}

// need returns the number of keys that the policy needs once the document is complete.
func (p *Policy) need() int {
	if p.Need != 0 {
		return p.Need
	}
	return len(p.Keys)
}

// atLeast returns the number of keys that have to seal once the document is complete.
func (p *Policy) atLeast() int {
	if p.Write.AtLeast != 0 {
		return p.Write.AtLeast
	}
	return len(p.Keys)
}

// equal reports whether what the policies seal cannot be told apart: the order of keys means nothing to that, and neither does
// how many have to seal, or patience.
func (p *Policy) equal(q *Policy) bool {
	return p.need() == q.need() && p.Generation == q.Generation &&
		slices.Equal(slices.Sorted(slices.Values(p.Keys)), slices.Sorted(slices.Values(q.Keys)))
}

package config

import (
	"fmt"
	"slices"
)

// Policy says which keys take part in sealing, and how many of them open.
type Policy struct {
	// The names of the keys, 1 to 8. This version takes exactly one key per policy.
	Keys []string `yaml:"keys" required:"true" max:"8"`

	// How many of the keys are needed to open, from 1 to the number of keys. 0, the default, means all of them.
	Need int `yaml:"need" min:"0" max:"8"`

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
	if len(p.Keys) > 1 {
		report("keys", "policies of several keys are not supported by this version: list one key per policy")
	}
}

// need returns the number of keys that the policy needs once the document is complete.
func (p *Policy) need() int {
	if p.Need != 0 {
		return p.Need
	}
	return len(p.Keys)
}

// equal reports whether the policies cannot be told apart: the order of keys means nothing.
func (p *Policy) equal(q *Policy) bool {
	return p.need() == q.need() && p.Generation == q.Generation &&
		slices.Equal(slices.Sorted(slices.Values(p.Keys)), slices.Sorted(slices.Values(q.Keys)))
}

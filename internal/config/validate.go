package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// Validate checks what the parts of the document must be together.
func (d *Daemon) Validate(report func(field, problem string)) {
	for i, c := range d.FormerClusters {
		if c == d.Cluster {
			report(fmt.Sprintf("formerClusters[%d]", i), "is the cluster itself: remove it here")
		}
		if slices.Index(d.FormerClusters, c) < i {
			report(fmt.Sprintf("formerClusters[%d]", i), "is there twice: remove one")
		}
	}
	if d.StateDir != "" && !filepath.IsAbs(d.StateDir) {
		report("stateDir", "is not absolute: write the whole path")
	}
	d.validateKeys(report)
	d.validatePolicies(report)
	d.validateColdStart(report)
}

// validateKeys reports keys that cannot be told apart.
func (d *Daemon) validateKeys(report func(field, problem string)) {
	for i := range d.Keys {
		k, earlier := &d.Keys[i], d.Keys[:i]
		same := func(other Key) bool { return other.Name == k.Name }
		if at := slices.IndexFunc(earlier, same); at >= 0 {
			report(fmt.Sprintf("keys[%d].name", i), fmt.Sprintf("is the name of keys[%d] too: give each key its own", at))
		}
		if k.Upstream != nil && k.Upstream.Socket == d.Socket.Path {
			report(fmt.Sprintf("keys[%d].upstream.socket", i), "is the daemon's own: it would ask itself for ever; name the other plugin's")
		}
		same = func(other Key) bool { return other.id() == k.id() }
		if at := slices.IndexFunc(earlier, same); at >= 0 {
			report(fmt.Sprintf("keys[%d].id", i), fmt.Sprintf("%q is the id of keys[%d] too: "+
				"set id on the key that nothing was sealed with yet, or remove the key if it is the same one", k.id(), at))
		}
	}
}

func (d *Daemon) validatePolicies(report func(field, problem string)) {
	names := d.keyNames()
	if len(d.Policies) == 0 {
		if only := d.wrapOnly(names); only != nil {
			report("policies", "missing: without it all keys are needed, and that "+cannotOpen(only))
		}
		if len(names) > 8 {
			report("policies", "missing: without it all keys are needed, and a policy has up to 8")
		}
		return
	}
	used := []string{d.ColdStart.SealedBy}
	for i := range d.Policies {
		p := &d.Policies[i]
		for j, name := range p.Keys {
			if !slices.Contains(names, name) {
				report(fmt.Sprintf("policies[%d].keys[%d]", i, j),
					fmt.Sprintf("%s names no key: the keys are %s", strictyaml.Quote(name), strings.Join(names, ", ")))
			}
		}
		if only := d.wrapOnly(p.Keys); len(p.Keys)-len(only) < p.need() {
			report(fmt.Sprintf("policies[%d]", i), cannotOpen(only))
		}
		used = append(used, p.Keys...)
		for j := range i {
			if p.equal(&d.Policies[j]) {
				report(fmt.Sprintf("policies[%d]", i), fmt.Sprintf("is the same as policies[%d]: remove one", j))
				break
			}
		}
	}
	for i, name := range names {
		if !slices.Contains(used, name) {
			report(fmt.Sprintf("keys[%d]", i), fmt.Sprintf("no policy uses %q, so it neither seals nor opens: "+
				"list it in a policy, or remove it", name))
		}
	}
}

// wrapOnly returns which of the named keys cannot open here what they wrap.
func (d *Daemon) wrapOnly(names []string) (only []string) {
	for i := range d.Keys {
		if k := &d.Keys[i]; slices.Contains(names, k.Name) && !k.Opens() {
			only = append(only, k.Name)
		}
	}
	return only
}

// OpensWithout reports whether every policy of a complete document opens without the named keys.
func (d *Daemon) OpensWithout(names []string) bool {
	for _, p := range d.Policies {
		only := d.wrapOnly(p.Keys)
		opens := 0
		for _, name := range p.Keys {
			if !slices.Contains(names, name) && !slices.Contains(only, name) {
				opens++
			}
		}
		if opens < p.Need {
			return false
		}
	}
	return true
}

func cannotOpen(names []string) string {
	return fmt.Sprintf("could not be opened here: %s only wraps, for recovery by a person: add keys that open", strings.Join(names, ", "))
}

func (d *Daemon) keyNames() []string {
	names := make([]string, len(d.Keys))
	for i, k := range d.Keys {
		names[i] = k.Name
	}
	return names
}

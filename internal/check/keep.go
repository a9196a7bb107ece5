package check

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/trousseau-io/trousseau/internal/coldstart"
	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/finding"
)

// directories looks for those that the daemon writes to, and does not make.
func (r *report) directories() {
	r.writtenTo("state-directory", "stateDir", r.config.StateDir, "the announced versions are not noted: a restart while one of several keys is away does not know them")
	if file := r.config.AuditLog.File; file != "" {
		r.writtenTo("audit-log-directory", "auditLog.file", filepath.Dir(file), "the daemon does not start without its audit log")
	}
}

func (r *report) writtenTo(rule, field, dir, cost string) {
	if dir == "" {
		return
	}
	fix := "install -d -m 0700 " + dir + ", and give it to the daemon's user"
	switch info, err := os.Stat(dir); {
	case err != nil:
		r.add(rule, finding.Error, dir, fmt.Sprintf("%s: %v: %s", field, err, cost), fix)
	case !info.IsDir():
		r.add(rule, finding.Error, dir, field+": it is no directory: "+cost, "name another one, or remove the file")
	case info.Mode().Perm()&0o022 != 0:
		r.add(rule, finding.Error, dir, fmt.Sprintf("%s: others may write there (mode %#o) and replace what the daemon keeps", field, info.Mode().Perm()), "chmod go-w "+dir)
	default:
		r.add(rule, finding.OK, dir, field+" is there, and others may not write to it", "")
	}
}

// kept says what the daemon keeps of seeds and roots, and what that costs.
func (r *report) kept() {
	if c := r.config.Cache; c.Seeds > 0 {
		r.add("cache", finding.Info, "cache", fmt.Sprintf("up to %d seeds stay in memory for %s: so long a key that is disabled still opens them", c.Seeds, c.For), "")
	}
	c := r.config.ColdStart
	if !c.On() {
		return
	}
	where := filepath.Join(r.config.StateDir, coldstart.SpareName)
	reader := fmt.Sprintf("who copies the node's disk and has what opens the key %s", c.SealedBy)
	r.add("cold-start", finding.Info, where, fmt.Sprintf("a spare root lets one API server start in an outage of up to %s; %s reads what is sealed with it then", c.For, reader), "")
	if c.Seeds > 0 {
		r.add("cold-start-seeds", finding.Warning, filepath.Join(r.config.StateDir, coldstart.SeedsName),
			fmt.Sprintf("up to %d seeds are kept on the node: %s, and etcd's data, reads without any key service what they sealed, until it is written anew", c.Seeds, reader),
			"set coldStart.seeds to 0 unless an API server must be able to read at a start in an outage; seal with a key of kind tpm")
	}
	for _, k := range r.config.Keys {
		if k.Name == c.SealedBy && isUnsealed(k) {
			r.add("cold-start-unsealed", finding.Error, placeOf(k), "it seals what is kept for a cold start, and its keystore is not sealed: a copy of the disk is enough",
				"seal the keystore with a keyFile on another device or in a systemd credential, or use a key of kind tpm")
		}
	}
}

func isUnsealed(k config.Key) bool { return k.Local != nil && k.Local.Unsealed }

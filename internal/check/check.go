// Package check looks at everything that a daemon needs, before it starts or while it runs: its configuration, the files
// with its secrets, its keys, its socket, and the EncryptionConfiguration that sends the API server there.
//
// It promises to report all problems at once, each with its fix, and what was in order too, so that an operator sees what
// was looked at. It calls the key services and the daemon as they would be called in service, and changes nothing.
package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/encconfig"
	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyring"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// Options says what to look at.
type Options struct {
	Config           string        // path of the daemon's configuration
	Sockets          []string      // of the daemon, or of several nodes' daemons; none means the configuration's, which need not be there
	EncryptionConfig string        // path, or "" for none
	Timeout          time.Duration // of each call to a key service and to the daemon
}

// Run looks at everything and returns what it found, in the order in which things depend on one another.
func Run(ctx context.Context, o Options, log *slog.Logger) []finding.Finding {
	d, err := config.Load(o.Config)
	if err != nil {
		return append(refused(o.Config, err), locked(o.Config, o.Config)...) // the socket is not known
	}
	r := &report{Options: o, config: d, log: log}
	r.add("config", finding.OK, o.Config, fmt.Sprintf("valid: cluster %s, %s, %s", d.Cluster.Name,
		count(len(d.Keys), "key", "keys"), count(len(d.Policies), "policy", "policies")), "")
	r.credentials()
	keys := r.keys(ctx)
	if keys != nil {
		defer keys.Close()
	}
	r.policies()
	r.directories()
	r.kept()
	probes := r.envelopes(ctx, keys)
	lock := locked(o.Config, r.socket())
	r.found = append(r.found, lock...)
	switch {
	case len(o.Sockets) > 1:
		r.nodes(ctx, keys, probes)
	case lock == nil: // otherwise it says the same
		r.daemon(ctx, keys)
	}
	if o.EncryptionConfig != "" {
		r.found = append(r.found, encconfig.Inspect(o.EncryptionConfig, r.socket())...)
	}
	return r.found
}

// report gathers what is found.
type report struct {
	Options
	config *config.Daemon
	log    *slog.Logger
	found  []finding.Finding
}

func (r *report) add(rule string, severity finding.Severity, where, what, fix string) {
	r.found = append(r.found, finding.Finding{Rule: rule, Severity: severity, Where: where, What: what, Fix: fix})
}

// failed adds an error with its own hint, or with fix where it has none.
func (r *report) failed(rule, where string, err error, fix string) {
	if hint := keyservice.HintOf(err); hint != "" {
		fix = hint
	}
	r.add(rule, finding.Error, where, err.Error(), fix)
}

// socket returns where this node's daemon listens.
func (r *report) socket() string {
	if len(r.Sockets) == 1 {
		return r.Sockets[0]
	}
	return r.config.Socket.Path
}

// refused returns one finding for each problem of a configuration.
func refused(path string, err error) []finding.Finding {
	problems, ok := errors.AsType[*strictyaml.Problems](err)
	if !ok {
		fix := "give the daemon's configuration with --config; it must be a file that only its owner may write"
		if errors.Is(err, fs.ErrPermission) {
			fix = "run this as root or as the daemon's user"
		}
		return []finding.Finding{{Rule: "config-unreadable", Severity: finding.Error, Where: path, What: err.Error(), Fix: fix}}
	}
	var found []finding.Finding
	for _, p := range problems.List {
		what := p.Text
		if p.Path != "" {
			what = p.Path + ": " + p.Text
		}
		found = append(found, finding.Finding{Rule: "config-invalid", Severity: finding.Error,
			Where: fmt.Sprintf("%s:%d", path, p.Line), What: what, Fix: "correct the line; docs/configuration.md has every field"})
	}
	return found
}

// LeastPolicies returns the least policy of each key service of a configuration that has policies of its own.
func LeastPolicies(d *config.Daemon) string {
	var policies []string
	for _, k := range d.Keys {
		if policy := k.LeastPolicy(); policy != "" {
			policies = append(policies, policy)
		}
	}
	return strings.Join(policies, "\n")
}

// keys opens all keys and tries each. It returns nil if one cannot be opened.
func (r *report) keys(ctx context.Context) *keyring.Keyring {
	ring, err := keyring.Open(ctx, r.config, r.log, nil)
	if err == nil {
		for _, k := range r.config.Keys {
			r.key(ctx, k, ring.Keys[k.ID])
		}
		return ring
	}
	for _, k := range r.config.Keys { // the error names one key: say it of each that does not open
		key, err := k.Open(ctx, r.log)
		if err != nil {
			r.failed("key-open", placeOf(k), err, "see docs/keyservices/"+k.Type()+".md")
			continue
		}
		r.key(ctx, k, key)
		_ = key.Close() // nothing depends on it
	}
	return nil
}

// count returns a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

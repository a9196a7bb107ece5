// Package config is the daemon's configuration: one strict YAML document, read into values that need no second check.
//
// The comments on the fields are the manual: docs/configuration.md and the JSON schema are generated from them. A
// document holds no secrets, only the names of files with secrets, so every type here may be printed and logged.
//
// The package checks what the document alone can tell. Whether files exist, groups are known and key services answer is
// for those who use them.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// Daemon is the configuration of trousseaud. Every field but apiVersion, kind, cluster and keys has a default that suits
// a control plane node.
type Daemon struct {
	// The version of this format. It is always trousseau.io/v1; fields are only ever added to it.
	APIVersion string `yaml:"apiVersion" required:"true" enum:"trousseau.io/v1"`

	// What this document is. It is always DaemonConfiguration.
	Kind string `yaml:"kind" required:"true" enum:"DaemonConfiguration"`

	// The cluster whose data this daemon protects. It is bound into everything that is sealed, so that what belongs to
	// another cluster does not open here, even under the same keys. It must be the same on all control plane nodes and
	// must not change while anything in etcd, or in a backup that may still be needed, was sealed under it.
	Cluster Cluster `yaml:"cluster" required:"true"`

	// Clusters whose data may be opened here as well, and under which nothing is sealed. List a cluster after its etcd
	// was restored into this one; remove it when everything was written again and no older backup is needed.
	FormerClusters []Cluster `yaml:"formerClusters,omitempty"`

	// The Unix socket on which the API server calls the daemon.
	Socket Socket `yaml:"socket"`

	// Whether KMS v1 (v1beta1) is refused. By default the daemon serves v2 and v1beta1 on the same socket. A cluster
	// whose EncryptionConfiguration never had a kms provider with apiVersion v1 needs v2 only. With v1beta1 switched
	// off, an API server cannot read what it once stored under KMS v1.
	DisableV1beta1 bool `yaml:"disableV1beta1,omitempty"`

	// The keys that protect the cluster, each in a key service of its kind. At least one is needed. A key that is only
	// there to open older data stays listed until nothing in etcd or in a needed backup was sealed with it.
	Keys []Key `yaml:"keys" required:"true"`

	// Which keys seal, and which may open. The first policy seals; all of them open. What was sealed under a policy that
	// is not listed does not open, even if its keys are there: otherwise, who can write to etcd and use one of the
	// keys could forge data. So list a new policy on every node before it becomes the first on any, and remove an
	// old one only when nothing in etcd or in a needed backup was sealed under it. Without policies there is one, over
	// all keys, all of which are needed.
	Policies []Policy `yaml:"policies"`

	// The directory where the daemon notes, in a file that holds nothing secret, which key versions it announced last. A
	// daemon that starts while one of several key services is away goes on with them. By default the directory of the
	// socket; below /run it is empty after a reboot, so name one such as /var/lib/trousseau where several keys are used.
	StateDir string `yaml:"stateDir,omitempty"`

	// How the daemon watches its keys and what it tells the API server about them.
	Status Status `yaml:"status"`

	// What is kept in memory of what was opened lately. By default nothing.
	Cache Cache `yaml:"cache"`

	// What is kept on the node's disk, so that an API server can start while too few key services answer. By default nothing.
	ColdStart ColdStart `yaml:"coldStart"`

	// What the daemon shows of itself: metrics, health and its log.
	Observe Observe `yaml:"observe"`

	// Who had what sealed and opened, in a file that nobody can change unseen. By default there is none. A change takes
	// effect at the next start.
	AuditLog AuditLog `yaml:"auditLog"`
}

// Parse reads a document; the name of its file is used in errors only. What the document leaves open is filled in: the
// ids of keys, the policy over all keys, the number of keys that a policy needs, the grace period. An error that is
// about the document is a *strictyaml.Problems.
func Parse(filename string, data []byte) (*Daemon, error) {
	d := new(Daemon)
	if err := strictyaml.Decode(filename, data, d); err != nil {
		return nil, err
	}
	d.complete()
	return d, nil
}

// Load reads a file as Parse does. It refuses a file that somebody besides its owner may write: who can change the
// configuration can point the daemon to another key.
func Load(path string) (*Daemon, error) {
	data, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	return Parse(path, data)
}

func read(path string) ([]byte, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: run \"trousseau init\" to write one", err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: give the path of a YAML file", path)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return nil, fmt.Errorf("%s may be written by others than its owner (mode %#o): run \"chmod go-w %s\"", path, mode, path)
	}
	// One byte more than a document may have, so that one too large is noticed and never read whole.
	return io.ReadAll(io.LimitReader(f, strictyaml.MaxSize+1))
}

// complete fills in what depends on more than one field. It is idempotent.
func (d *Daemon) complete() {
	for i := range d.Keys {
		d.Keys[i].ID = d.Keys[i].id()
	}
	if len(d.Policies) == 0 {
		d.Policies = []Policy{{Keys: d.keyNames()}}
	}
	for i := range d.Policies {
		d.Policies[i].Need = d.Policies[i].need()
		d.Policies[i].Write.AtLeast = d.Policies[i].atLeast()
	}
	d.Status.Grace = d.Status.grace()
}

package encconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/apis/apiserver"

	"github.com/trousseau-io/trousseau/internal/finding"
)

// Inspect looks at the file from the side of a daemon that listens on socket: whether an API server loads it, writes
// with that daemon, and with nobody before it.
func Inspect(path, socket string) []finding.Finding {
	i := inspection{path: path, endpoint: "unix://" + socket}
	config, err := Load(path)
	if err != nil {
		fix := "correct the file; the API server would not start with it"
		if errors.Is(err, fs.ErrNotExist) {
			fix = "give the file that --encryption-provider-config of kube-apiserver names"
		}
		i.add("encryption-config-refused", finding.Error, err.Error(), fix)
		return i.found
	}
	i.mode()
	var encrypted []string
	for n, rule := range config.Resources {
		if i.rule(n, rule) {
			encrypted = append(encrypted, rule.Resources...)
		}
	}
	i.coverage(encrypted, config)
	return i.found
}

// inspection gathers what is found in one file.
type inspection struct {
	path, endpoint string
	found          []finding.Finding
}

func (i *inspection) add(rule string, severity finding.Severity, what, fix string) {
	i.found = append(i.found, finding.Finding{Rule: rule, Severity: severity, Where: i.path, What: what, Fix: fix})
}

func (i *inspection) mode() {
	if info, err := os.Stat(i.path); err == nil && info.Mode().Perm()&0o022 != 0 {
		i.add("encryption-config-writable", finding.Error,
			fmt.Sprintf("more than its owner can write the file (mode %#o), and so switch encryption off", info.Mode().Perm()),
			"chmod go-w "+i.path)
	}
}

// rule looks at the providers of one list of resources, and reports whether they are written with the daemon.
func (i *inspection) rule(n int, rule apiserver.ResourceConfiguration) bool {
	where := fmt.Sprintf("resources[%d] (%s): ", n, strings.Join(rule.Resources, ", "))
	ours := slices.IndexFunc(rule.Providers, func(p apiserver.ProviderConfiguration) bool {
		return p.KMS != nil && p.KMS.Endpoint == i.endpoint
	})
	if ours < 0 {
		return false
	}
	switch first := rule.Providers[0]; {
	case first.Identity != nil:
		i.add("encryption-config-identity-first", finding.Error, where+"identity comes first, so that everything is written in clear",
			"move the kms provider to the first place, unless you are on the way back to no encryption")
		return false
	case ours > 0:
		i.add("encryption-config-not-first", finding.Warning, where+"another provider comes first and writes; the daemon only reads",
			"move the daemon's kms provider to the first place on every node, after every node can read with it")
		return false
	}
	kms := rule.Providers[0].KMS
	if kms.APIVersion != "v2" {
		i.add("encryption-config-kms-v1", finding.Warning, where+"it uses KMS v1: one call per write, and off by default in Kubernetes",
			"set apiVersion: v2 under another name, in front of this provider, and write everything again")
	}
	return true
}

// coverage says what is written with the daemon, and complains if that is nothing or lacks Secrets.
func (i *inspection) coverage(encrypted []string, config *Config) {
	if len(encrypted) == 0 {
		if len(i.found) == 0 || !slices.ContainsFunc(i.found, func(f finding.Finding) bool { return f.Severity > finding.Info }) {
			i.add("encryption-config-other-endpoint", finding.Error,
				fmt.Sprintf("no kms provider has the endpoint %s; there are: %s", i.endpoint, endpoints(config)),
				"set endpoint to "+i.endpoint+", or socket.path of the daemon to where the API server calls")
		}
		return
	}
	covers := func(pattern string) bool { return slices.Contains(encrypted, pattern) }
	if !covers("secrets") && !covers("*.") && !covers("*.*") {
		i.add("encryption-config-no-secrets", finding.Warning, "Secrets are not written with this daemon",
			"add secrets to the resources of its rule")
	}
	i.add("encryption-config", finding.OK, "kube-apiserver loads it, and writes with this daemon: "+strings.Join(encrypted, ", "), "")
}

func endpoints(config *Config) string {
	var all []string
	for _, rule := range config.Resources {
		for _, p := range rule.Providers {
			if p.KMS != nil && !slices.Contains(all, p.KMS.Endpoint) {
				all = append(all, p.KMS.Endpoint)
			}
		}
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, ", ")
}

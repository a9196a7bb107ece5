package setup

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

const format = `# The configuration of trousseaud. Every field is described in docs/configuration.md.
# Check it with: trousseau check --config %[1]s
apiVersion: trousseau.io/v1
kind: DaemonConfiguration

# The same on every control plane node, and never changed: both are bound into everything that is sealed.
cluster:
  name: %[2]s
  lineage: "%[3]s"

# Where kube-apiserver calls. The same path, after unix://, is the endpoint in the EncryptionConfiguration.
socket:
  path: %[4]s

keys:
%[5]s%[7]s
# Metrics and health over HTTP.
observe:
  listen: %[6]s
`

const policyFormat = `
# Each key holds a share of what is sealed, and any that many of them open it. Before you change it:
# docs/operate/several-keys.md.
policies:
- keys: [%s]
  need: %d

# Where the daemon keeps what it has to know after a restart. It must be there.
stateDir: %s
`

// daemonConfig returns the daemon's configuration with what an operator may want to know about each part.
func daemonConfig(o Options, r Result) []byte {
	keys, names := "", o.keyNames()
	for i, s := range o.Services {
		keys += s.yaml(names[i])
	}
	if o.Local != nil {
		keys += localKey(*o.Local, r)
	}
	policy := ""
	if r.Policy != "" {
		policy = fmt.Sprintf(policyFormat, strings.Join(names, ", "), o.Need, scalar(r.StateDir))
	}
	return fmt.Appendf(nil, format, r.Config, scalar(o.Cluster), r.Lineage, scalar(o.Socket), keys, scalar(o.Observe), policy)
}

func localKey(l Local, r Result) string {
	var b strings.Builder
	b.WriteString("# An encrypted file, the same on every control plane node: copy it, do not create another.\n")
	fmt.Fprintf(&b, "- name: %s\n  local:\n    keystore: %s\n", localName, scalar(r.Keystore))
	switch {
	case l.Unsealed:
		b.WriteString("    unsealed: true # for development only: whoever copies the keystore has the keys\n")
	case l.PassphraseFile != "":
		fmt.Fprintf(&b, "    passphraseFile: %s\n", scalar(string(l.PassphraseFile)))
	case l.KeyFile != "":
		fmt.Fprintf(&b, "    keyFile: %s\n", scalar(string(l.KeyFile)))
	default:
		fmt.Fprintf(&b, "    # Belongs on another device, or in a systemd credential: see docs/keyservices/local.md.\n    keyFile: %s\n",
			scalar(r.KeystoreKey))
	}
	return b.String()
}

// scalar returns a text as one YAML value, quoted where it must be.
func scalar(value string) string {
	out, err := yaml.Marshal(text(value))
	if err != nil || bytes.Count(out, []byte("\n")) != 1 {
		return fmt.Sprintf("%q", value)
	}
	return strings.TrimSuffix(string(out), "\n")
}

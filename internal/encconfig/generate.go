// Package encconfig is the EncryptionConfiguration of kube-apiserver: which resources are stored encrypted, by whom.
//
// It generates one for Trousseau and looks at existing ones. What the API server itself refuses is left to its own
// code, which is the authority; the findings here are about what it takes and somebody will regret.
package encconfig

import (
	"fmt"
	"strings"
	"time"
)

// ProviderName is the name of the kms provider in what Generate makes. It is stored in etcd in front of each value and
// must not change afterwards.
const ProviderName = "trousseau"

// Options says what to encrypt and with whom.
type Options struct {
	Socket    string        // absolute path of the daemon's socket
	Resources []string      // such as secrets and configmaps; empty means secrets
	Timeout   time.Duration // of each call; zero means 3s, the API server's default
}

// Generate returns an EncryptionConfiguration that writes the resources with KMS v2 and still reads what is in clear.
func Generate(o Options) ([]byte, error) {
	if len(o.Resources) == 0 {
		o.Resources = []string{"secrets"}
	}
	if o.Timeout == 0 {
		o.Timeout = 3 * time.Second
	}
	text := fmt.Sprintf(format, strings.Join(o.Resources, "\n  - "), ProviderName, "unix://"+o.Socket, o.Timeout)
	if _, err := parse([]byte(text)); err != nil {
		return nil, fmt.Errorf("generating EncryptionConfiguration: %w", err)
	}
	return []byte(text), nil
}

const format = `# For kube-apiserver: --encryption-provider-config=THIS FILE --encryption-provider-config-automatic-reload=true
# The same on every control plane node.
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - %s
  providers:
  # The first provider writes. apiVersion must be given: without it the API server takes v1.
  - kms:
      apiVersion: v2
      name: %s # stored in front of each value: do not change it
      endpoint: %q
      timeout: %s
  # Reads what was stored before. Remove it when everything has been written again.
  - identity: {}
`

package tpm

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
)

// Config is a key in a keystore, an encrypted file that is the same on every node of the cluster, whose own key each node
// keeps sealed to its TPM 2.0: it opens only in that TPM, and only while the node has started what it had started then.
type Config struct {
	// The absolute path of the keystore, which `trousseau tpm create` makes on the first node and which is copied to the
	// others. Only its owner may read it. The file is read again when its content changes; until a changed file can be
	// opened, the versions read before stay in use.
	Keystore string `yaml:"keystore" required:"true"`

	// The absolute path of the file with the keystore's key, sealed to this node's TPM: `trousseau tpm create` makes it on the
	// first node, `trousseau tpm accept` on the others. It says which PCRs have to keep their values. It is of no use to
	// another node.
	SealedKey string `yaml:"sealedKey" required:"true"`

	// Where the TPM is: the absolute path of a device or of a Unix socket, or `127.0.0.1:PORT` for a simulator. Use
	// `/dev/tpm0` only where the kernel has no resource manager: it lets one process in at a time.
	Device tpmseal.Device `yaml:"device" default:"/dev/tpmrm0"`

	// The file with a secret that the TPM wants to see as well, or `systemd:NAME` for a systemd credential. It is needed if the
	// key was sealed with one. Set it where the node's state is not enough, because somebody else can start the same software
	// on it. The TPM counts wrong ones, and locks itself for a while after some.
	AuthFile credential.File `yaml:"authFile,omitempty"`
}

// ID returns the name of the key in envelopes, logs and metrics. The keys are the same on every node, whatever its TPM is and
// wherever the files lie. A second keystore in one configuration needs an `id` of its own.
func (c Config) ID() string { return "tpm" }

// Validate reports what no tag can say about the fields.
func (c *Config) Validate(report func(field, problem string)) {
	for field, path := range map[string]string{"keystore": c.Keystore, "sealedKey": c.SealedKey} {
		if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
			report(field, fmt.Sprintf("is %q, which is not an absolute path: write the path from the root", path))
		}
	}
	if c.Keystore != "" && c.Keystore == c.SealedKey {
		report("sealedKey", "names the keystore: name the file that `trousseau tpm` writes beside it")
	}
	if err := c.Device.Validate(); err != nil {
		report("device", err.Error())
	}
	if c.AuthFile != "" {
		if err := c.AuthFile.Validate(); err != nil {
			report("authFile", err.Error())
		}
	}
}

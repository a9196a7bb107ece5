package local

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// Config is a key in a keystore: an encrypted file that is the same on every node of the cluster. Exactly one of
// passphraseFile, keyFile and unsealed says how the file is sealed.
type Config struct {
	// The absolute path of the keystore, which `trousseau keystore create` makes. Only its owner may read it. The file is
	// read again when its content changes; until a changed file can be opened, the versions read before stay in use.
	Keystore string `yaml:"keystore" required:"true"`

	// The file with the passphrase that seals the keystore, or `systemd:NAME` for a systemd credential. Opening takes about
	// a fifth of a second and, while it lasts, 64 MiB of memory: that is what guessing the passphrase costs, too.
	PassphraseFile credential.File `yaml:"passphraseFile,omitempty"`

	// The file with the random key that seals the keystore, 32 bytes or more in any encoding, or `systemd:NAME` for a systemd
	// credential. Opening takes less than a millisecond, so a secret that can be guessed is no protection here.
	KeyFile credential.File `yaml:"keyFile,omitempty"`

	// Whether the keystore is not sealed at all, so that a copy of the file is a copy of the keys. For development: the
	// daemon warns of it at every start.
	Unsealed bool `yaml:"unsealed,omitempty"`
}

// ID returns the name of the key in envelopes, logs and metrics. The keys are the same on every node and wherever the file
// lies, so neither is in it. A second keystore in one configuration needs an `id` of its own.
func (c Config) ID() string { return "local" }

// Validate reports what no tag can say about the fields.
func (c *Config) Validate(report func(field, problem string)) {
	if !filepath.IsAbs(c.Keystore) || strings.ContainsRune(c.Keystore, 0) {
		report("keystore", fmt.Sprintf("is %q, which is not an absolute path: write the path from the root", c.Keystore))
	}
	for field, file := range map[string]credential.File{"passphraseFile": c.PassphraseFile, "keyFile": c.KeyFile} {
		if file == "" {
			continue
		}
		if err := file.Validate(); err != nil {
			report(field, err.Error())
		}
	}
	if n := c.sealings(); n != 1 {
		problem := "does not say how the keystore is sealed"
		if n > 1 {
			problem = "says more than one way in which the keystore is sealed"
		}
		report("", problem+": set exactly one of passphraseFile, keyFile and (for development) unsealed: true")
	}
}

// sealings counts the ways of sealing that are set.
func (c *Config) sealings() (n int) {
	for _, set := range []bool{c.PassphraseFile != "", c.KeyFile != "", c.Unsealed} {
		if set {
			n++
		}
	}
	return n
}

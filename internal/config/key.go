package config

import (
	"fmt"
	"regexp"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/all"
)

// Key is one key in one key service. Beside its name it has exactly one field with the settings of that key service.
type Key struct {
	// The name that policies in this document use for the key: 1 to 63 small letters, digits and hyphens, with a letter or
	// digit at both ends. Nothing that is stored depends on it, so it may be changed at any time.
	Name string `yaml:"name" required:"true" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" says:"a DNS label such as prod-eu-1"`

	// The identity of the key: 1 to 128 printable ASCII characters without spaces. It is bound into everything that is
	// sealed with the key, and is what logs and metrics call it, so it holds nothing secret; it must be the same on all
	// nodes and must not change while something sealed with the key is needed. The default comes from the key service, such as
	// `vault:transit/k8s` for the key k8s in the mount transit, or `local`. It leaves out what may move, such as
	// addresses. Set it where two keys would have the same one, or before a mount is renamed.
	ID string `yaml:"id,omitempty" pattern:"^[!-~]{1,128}$" says:"1 to 128 printable ASCII, no spaces"`

	// The version of the key to seal with, as `trousseau check` shows it. By default the newest one is taken, some time
	// after it was made (see status.activationDelay). Pin one where a version must not be used, or was deleted while it
	// was in use. Every version that the key service still holds opens, pinned or not.
	Version keyservice.VersionID `yaml:"version,omitempty" pattern:"^[!-~]{1,64}$" says:"1 to 64 printable ASCII, no spaces"`

	all.Service `yaml:",inline"`
}

// Validate checks the default id, which is made of what the key service's settings are.
func (k *Key) Validate(report func(field, problem string)) {
	if id := k.id(); !validID.MatchString(id) {
		report("id", fmt.Sprintf("the default %q is not 1 to 128 printable ASCII characters without spaces: set id", id))
	}
}

var validID = regexp.MustCompile(`^[!-~]{1,128}$`)

// id returns the id that the key has once the document is complete.
func (k *Key) id() string {
	if k.ID != "" {
		return k.ID
	}
	return k.Service.ID()
}

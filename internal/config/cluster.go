package config

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

// Cluster says which cluster something belongs to.
type Cluster struct {
	// The cluster's name, for people: 1 to 63 small letters, digits and hyphens, with a letter or digit at both ends. It
	// tells clusters apart only together with the lineage.
	Name string `yaml:"name" required:"true" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" says:"a DNS label such as prod-eu-1"`

	// 16 random bytes as 32 hexadecimal digits, which tell this cluster from another one of the same name, such as the
	// one that was here before it was rebuilt. Drawn once by `trousseau init`, or with `openssl rand -hex 16`, and the
	// same on all nodes. It is no secret. Put it in quotes: YAML takes some of these for numbers.
	Lineage Lineage `yaml:"lineage" required:"true" pattern:"^[0-9a-f]{32}$" says:"32 hexadecimal digits in small letters"`
}

// Lineage is the random part of a cluster's identity.
type Lineage [16]byte

// String returns the lineage as the document has it.
func (l Lineage) String() string { return hex.EncodeToString(l[:]) }

// MarshalText is String for encoders.
func (l Lineage) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads 32 hexadecimal digits that are not all zero.
func (l *Lineage) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(l)) {
		return errors.New("must have 32 hexadecimal digits")
	}
	if _, err := hex.Decode(l[:], text); err != nil {
		return fmt.Errorf("must have 32 hexadecimal digits, not %s", strictyaml.Quote(string(text)))
	}
	if *l == (Lineage{}) {
		return errors.New("must be random, not all zeros: draw it with openssl rand -hex 16")
	}
	return nil
}

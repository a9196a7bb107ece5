// Package pkcs11 wraps secrets with a key in a hardware security module, or anything else that a PKCS#11 module drives.
//
// It promises that the key does not leave the token, that the id of a version tells the key itself and not its name, that a
// token that was away or has lost its sessions is used again without a restart, and that a wrong PIN is tried once and not
// until the token locks. A call that the module does not answer is left when its context ends; at most 16 are left behind
// for each key. It needs cgo: a program that was built without says so when the key is opened.
package pkcs11

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Config is a key in a token that a PKCS#11 module drives. Exactly one of token and serial says which token, and exactly
// one of label and id which key.
type Config struct {
	// The absolute path of the module: the shared library that the maker of the HSM supplies, such as
	// `/usr/lib/softhsm/libsofthsm2.so`. It runs inside the daemon, so it must be as trusted as the daemon. What it needs in the
	// environment (SOFTHSM2_CONF for SoftHSM) goes into the daemon's environment.
	Module string `yaml:"module" required:"true"`

	// The label of the token, as `pkcs11-tool --list-token-slots` shows it. Slot numbers move, so there is no setting for them.
	Token string `yaml:"token" oneof:"token"`

	// The serial number of the token, where two tokens have one label. It is part of the key's default id, and another
	// member of a cluster of HSMs has another one: prefer token.
	Serial string `yaml:"serial" oneof:"token"`

	// The file with the PIN of the token's user, or `systemd:NAME` for a systemd credential. It is read at each log in. A PIN
	// that the token refused is not tried again, until the file holds another one or the daemon restarts.
	PINFile credential.File `yaml:"pinFile" required:"true"`

	// The label of the key. With one `*` in it, such as `k8s-*`, every key whose label fits is a version, and the newest is the
	// one whose text in the place of `*` comes last: numbers in it compare as numbers, anything else by its bytes. So `k8s-10`
	// is newer than `k8s-9`, and `k8s-2026-10-01` than `k8s-2026-04-01`. Without `*` the key cannot be rotated.
	Label string `yaml:"label" oneof:"key"`

	// The CKA_ID of the key, in hexadecimal digits. Such a key cannot be rotated: use label where you can.
	KeyID string `yaml:"id" oneof:"key" pattern:"^([0-9a-fA-F]{2}){1,64}$" says:"1 to 64 bytes in hexadecimal digits"`

	// How the key wraps. `aes-gcm` binds what it wraps to the cluster and stores the least. `aes-key-wrap-pad`
	// (CKM_AES_KEY_WRAP_PAD) and `aes-key-wrap-kwp` (CKM_AES_KEY_WRAP_KWP of PKCS#11 3.0) are for HSMs without GCM; they wrap
	// a session object. `rsa-oaep` uses SHA-256; anybody who has the public key can make what it opens, so that
	// `trousseau check` warns. What one mechanism wrapped no other opens: do not change it.
	Mechanism string `yaml:"mechanism" enum:"aes-gcm,aes-key-wrap-pad,aes-key-wrap-kwp,rsa-oaep" default:"aes-gcm"`

	// Whether the HSM makes the initialization vectors of `aes-gcm` and takes none from outside, as some do in FIPS mode.
	HSMIV bool `yaml:"hsmIV"`
}

// mechanisms are the values that Config.Mechanism may have.
const (
	aesGCM     = "aes-gcm"
	aesWrapPad = "aes-key-wrap-pad"
	aesWrapKWP = "aes-key-wrap-kwp"
	rsaOAEP    = "rsa-oaep"
)

// ID returns the name of the key in envelopes, logs and metrics: what the token and the key are called, without the path of
// the module, which moves.
func (c Config) ID() string {
	token, key := escape(c.Token), escape(c.Label)
	if c.Token == "" {
		token = "serial=" + escape(c.Serial)
	}
	if c.Label == "" {
		key = "id=" + strings.ToLower(c.KeyID)
	}
	return "pkcs11:" + token + "/" + key
}

// escape returns a label as printable ASCII.
func escape(label string) string { return strings.ReplaceAll(url.PathEscape(label), "%2A", "*") }

// Sizes in bytes that PKCS#11 gives labels of tokens and serial numbers, and what is enough for the label of a key.
const (
	maxToken  = 32
	maxSerial = 16
	maxLabel  = 128
)

// Validate reports what no tag can say about the fields.
func (c *Config) Validate(report func(field, problem string)) {
	if !filepath.IsAbs(c.Module) || strings.ContainsRune(c.Module, 0) {
		report("module", fmt.Sprintf("is %q, which is not an absolute path: write the path from the root", c.Module))
	}
	if (c.Token == "") == (c.Serial == "") {
		report("token", "and serial say which token: set exactly one of the two")
	}
	if (c.Label == "") == (c.KeyID == "") {
		report("label", "and id say which key: set exactly one of the two")
	}
	for _, f := range []struct {
		field, value string
		size         int
	}{{"token", c.Token, maxToken}, {"serial", c.Serial, maxSerial}, {"label", c.Label, maxLabel}} {
		if len(f.value) > f.size || strings.TrimRight(f.value, " ") != f.value || strings.ContainsRune(f.value, 0) {
			report(f.field, fmt.Sprintf("is longer than %d bytes, ends with a space or has a NUL in it: write it as "+
				"`pkcs11-tool` shows it", f.size))
		}
	}
	if strings.Count(c.Label, "*") > 1 {
		report("label", "has more than one *: leave the one that stands for the version")
	}
	if err := c.PINFile.Validate(); err != nil {
		report("pinFile", err.Error())
	}
	if c.HSMIV && c.Mechanism != aesGCM {
		report("hsmIV", "is for aes-gcm alone: remove it")
	}
}

// check is Validate for callers that did not decode c from a document, and returns the CKA_ID of the key, if that names it.
// Its error is a *keyservice.Error.
func (c *Config) check() (keyID []byte, err error) {
	var problems []error
	c.Validate(func(field, problem string) { problems = append(problems, fmt.Errorf("%s %s", field, problem)) })
	if keyID, err = hex.DecodeString(c.KeyID); err != nil {
		problems = append(problems, fmt.Errorf("id is %q, which is not hexadecimal", c.KeyID))
	}
	switch c.Mechanism {
	case aesGCM, aesWrapPad, aesWrapKWP, rsaOAEP:
	default:
		problems = append(problems, fmt.Errorf("mechanism is %q, which is none", c.Mechanism))
	}
	if len(problems) > 0 {
		return nil, keyservice.Misconfigured(c.ID(), errors.Join(problems...))
	}
	return keyID, nil
}

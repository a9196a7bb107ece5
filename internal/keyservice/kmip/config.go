package kmip

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// Config is an AES key in a server that speaks KMIP 1.2 to 1.4 over TLS with client certificates. With a `key` alone, the
// server wraps with AES-GCM, which needs KMIP 1.4. With a `key` and a `mac`, it wraps with AES-CBC and authenticates with
// HMAC-SHA256, which KMIP 1.2 has. Nothing else is offered, because nothing else is authenticated.
type Config struct {
	// The addresses of the servers of one cluster, each with its port, such as `kmip-1.example.com:5696`. They are tried in
	// this order until one answers, and the one that answered stays in use until it fails.
	Addresses []string `yaml:"addresses" required:"true" max:"16"`

	// The file with the certificates (PEM) of the authorities that the servers' certificates are checked against. By default
	// those of the operating system. This file and the two of the client certificate are read again when their content
	// changes, and new connections are made with them; until a changed file can be used, the former content stays in use.
	CAFile string `yaml:"caFile,omitempty"`

	// The name that the servers' certificates must be made out to. By default the host of the address.
	TLSServerName string `yaml:"tlsServerName,omitempty"`

	// The file with the client certificate (PEM), which is how the server knows who calls. Certificates of intermediate
	// authorities follow in the same file.
	ClientCertFile string `yaml:"clientCertFile" required:"true"`

	// The file with the private key (PEM) of clientCertFile, or `systemd:NAME` for a systemd credential.
	ClientKeyFile credential.File `yaml:"clientKeyFile" required:"true"`

	// The AES key that encrypts. Its usage mask must allow Encrypt and Decrypt.
	Key Object `yaml:"key" required:"true"`

	// The HMAC-SHA256 key that authenticates what an AES-CBC key encrypts. Its usage mask must allow MAC Generate. Set it for
	// a server without AES-GCM or without KMIP 1.4, and leave it out for every other one.
	MAC *Object `yaml:"mac,omitempty"`
}

// Object says which object of the server is meant, and with it those that replaced it and that it replaced (the links that
// ReKey makes). The newest active one of them wraps.
type Object struct {
	// The Name attribute of the key. Several keys may have it: they are versions of one.
	Name string `yaml:"name,omitempty" oneof:"object"`

	// The unique identifier of any version of the key.
	UniqueID string `yaml:"uniqueID,omitempty" oneof:"object"`
}

func (o Object) String() string { return o.Name + o.UniqueID } // one of the two is empty

// ID returns the name of the key in envelopes, logs and metrics. It holds both keys of AES-CBC, so that the same AES key
// may be moved to AES-GCM under another id. Addresses move, so they are not in it.
func (c Config) ID() string {
	if c.MAC != nil {
		return "kmip:" + c.Key.String() + "+" + c.MAC.String()
	}
	return "kmip:" + c.Key.String()
}

// form returns how the configured keys wrap.
func (c Config) form() form {
	if c.MAC != nil {
		return cbcHMAC
	}
	return gcm
}

// maxNameSize bounds names and unique identifiers, in bytes.
const maxNameSize = 512

// Validate reports what no tag can say about the fields.
func (c *Config) Validate(report func(field, problem string)) {
	for i, address := range c.Addresses {
		if !validAddress(address) {
			report(fmt.Sprintf("addresses[%d]", i), fmt.Sprintf("is %q: write HOST:PORT; the port of KMIP is 5696", address))
		}
	}
	for field, path := range map[string]string{"caFile": c.CAFile, "clientCertFile": c.ClientCertFile} {
		if path != "" && !filepath.IsAbs(path) {
			report(field, "is not absolute: write the whole path")
		}
	}
	if c.ClientKeyFile != "" {
		if err := c.ClientKeyFile.Validate(); err != nil {
			report("clientKeyFile", err.Error())
		}
	}
	if len(c.Key.String()) > maxNameSize {
		report("key", fmt.Sprintf("has more than %d bytes", maxNameSize))
	}
	if c.MAC != nil && len(c.MAC.String()) > maxNameSize {
		report("mac", fmt.Sprintf("has more than %d bytes", maxNameSize))
	}
	if c.MAC != nil && *c.MAC == c.Key {
		report("mac", "is the same object as key: AES-CBC and HMAC need a key each")
	}
}

func validAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	return err == nil && portErr == nil && host != "" && n > 0
}

// check reports every problem of a Config that was not decoded from a document.
func (c *Config) check() error {
	var problems []error
	report := func(field, problem string) { problems = append(problems, fmt.Errorf("%s %s", field, problem)) }
	if len(c.Addresses) == 0 {
		report("addresses", "is empty: name at least one server")
	}
	if c.ClientCertFile == "" || c.ClientKeyFile == "" {
		report("clientCertFile", "or clientKeyFile is empty: KMIP needs a client certificate and its key")
	}
	for field, object := range map[string]*Object{"key": &c.Key, "mac": c.MAC} {
		if object != nil && (object.Name == "") == (object.UniqueID == "") {
			report(field, "does not say which object is meant: set one of name and uniqueID")
		}
	}
	c.Validate(report)
	return errors.Join(problems...)
}

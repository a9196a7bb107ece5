package azurekv

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// Config is a key in Azure Key Vault or Azure Managed HSM. Of the environment, the proxy for HTTPS has a say (HTTPS_PROXY,
// NO_PROXY), and what Azure sets to lead a managed identity to its endpoint (IDENTITY_ENDPOINT and the like).
type Config struct {
	// The name of the key vault: `myvault` for https://myvault.vault.azure.net.
	Vault string `yaml:"vault" oneof:"vault" pattern:"^[a-z][a-z0-9-]{1,22}[a-z0-9]$" says:"3 to 24 small letters, digits and hyphens"`

	// The name of the managed HSM: `myhsm` for https://myhsm.managedhsm.azure.net.
	ManagedHSM string `yaml:"managedHSM" oneof:"vault" pattern:"^[a-z][a-z0-9-]{1,22}[a-z0-9]$" says:"3 to 24 small letters, digits and hyphens"`

	// The name of the key, without a version: new versions are found by themselves.
	Key string `yaml:"key" required:"true" pattern:"^[0-9A-Za-z-]{1,127}$" says:"1 to 127 letters, digits and hyphens"`

	// How the key wraps: `RSA-OAEP-256` with a key of type RSA or RSA-HSM, `A256KW` with one of type oct-HSM and 256 bits, which
	// managed HSMs have. Prefer A256KW where you can: RSA wraps with a public key, so that whoever has that and can write to
	// etcd can make values that open. The two do not open each other's output, so this never changes for a key.
	Algorithm azkeys.EncryptionAlgorithm `yaml:"algorithm" default:"RSA-OAEP-256" enum:"RSA-OAEP-256,A256KW"`

	// The Azure cloud that the vault is in. It decides the host names of the vault and of Entra ID. `custom` takes them from
	// vaultURL and authorityHost.
	Cloud string `yaml:"cloud" default:"public" enum:"public,government,china,custom"`

	// The URL of the vault or managed HSM, for the cloud `custom` only: `https://myvault.vault.example.com`. The name in
	// vault or managedHSM remains part of the key's id.
	VaultURL string `yaml:"vaultURL"`

	// The URL of Entra ID, for the cloud `custom` only: `https://login.example.com`.
	AuthorityHost string `yaml:"authorityHost"`

	// The file with the certificates (PEM) of the authorities that servers' certificates are checked against, where it is
	// not those of the operating system: for a private cloud, or a proxy that opens TLS. It is read when the daemon starts.
	CAFile string `yaml:"caFile"`

	// How to log in: exactly one method.
	Auth Auth `yaml:"auth" required:"true"`
}

// place is where a cloud keeps its services.
type place struct {
	vaults, hsms string // suffixes of their host names
	entra        cloud.Configuration
}

func places(name string) (place, bool) {
	switch name {
	case "public":
		return place{".vault.azure.net", ".managedhsm.azure.net", cloud.AzurePublic}, true
	case "government":
		return place{".vault.usgovcloudapi.net", ".managedhsm.usgovcloudapi.net", cloud.AzureGovernment}, true
	case "china":
		return place{".vault.azure.cn", ".managedhsm.azure.cn", cloud.AzureChina}, true
	}
	return place{}, false
}

// name returns the name of the vault or managed HSM.
func (c Config) name() string { return c.Vault + c.ManagedHSM } // one is empty

// ID returns the name of the key in envelopes, logs and metrics. Host names differ between clouds, so they are not in it.
func (c Config) ID() string { return "azurekv:" + c.name() + "/" + c.Key }

// url returns where the vault is.
func (c Config) url() string {
	at, known := places(c.Cloud)
	switch {
	case !known:
		return c.VaultURL
	case c.ManagedHSM != "":
		return "https://" + c.ManagedHSM + at.hsms
	}
	return "https://" + c.Vault + at.vaults
}

// entra returns where to log in.
func (c Config) entra() cloud.Configuration {
	if at, known := places(c.Cloud); known {
		return at.entra
	}
	return cloud.Configuration{ActiveDirectoryAuthorityHost: c.AuthorityHost}
}

// onThisHost says that the vault is a fake: no name of a cloud leads to this host. Only then a token for another host's
// resource is sent to it.
func (c Config) onThisHost() bool {
	u, err := url.Parse(c.url())
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || (err == nil && ip.IsLoopback())
}

// Validate reports what no tag can say about the fields.
func (c *Config) Validate(report func(field, problem string)) {
	custom := c.Cloud == "custom"
	c.reportURL("vaultURL", c.VaultURL, custom, report)
	c.reportURL("authorityHost", c.AuthorityHost, custom && c.Auth.ManagedIdentity == nil, report)
	reportPath("caFile", c.CAFile, report)
}

func (c *Config) reportURL(field, value string, required bool, report func(field, problem string)) {
	u, err := url.Parse(value)
	switch {
	case value == "" && required:
		report(field, "is missing: the cloud is custom, so write https://HOST")
	case value == "":
	case c.Cloud != "custom":
		report(field, "is only for the cloud custom: remove it, or set cloud: custom")
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		(u.Path != "" && u.Path != "/"):
		report(field, "is no plain https URL: write https://HOST or https://HOST:PORT")
	}
}

func reportFile(field string, file credential.File, report func(field, problem string)) {
	if err := file.Validate(); err != nil {
		report(field, err.Error())
	}
}

// reportPath is for files that hold nothing secret.
func reportPath(field, path string, report func(field, problem string)) {
	if path != "" && !filepath.IsAbs(path) {
		report(field, "is not absolute: write the whole path")
	}
}

var (
	vaultName = regexp.MustCompile(`^[a-z][a-z0-9-]{1,22}[a-z0-9]$`)
	keyName   = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
)

// check says what the decoder says of documents, for callers that did not decode c from one.
func (c *Config) check() error {
	var problems []error
	report := func(field, problem string) { problems = append(problems, fmt.Errorf("%s %s", field, problem)) }
	if (c.Vault == "") == (c.ManagedHSM == "") || !vaultName.MatchString(c.name()) {
		report("vault", "is no name, or managedHSM is set too: name one vault or one managed HSM")
	}
	if !keyName.MatchString(c.Key) {
		report("key", "must be 1 to 127 letters, digits and hyphens")
	}
	if c.Algorithm != rsaOAEP && c.Algorithm != aesKW {
		report("algorithm", "must be one of RSA-OAEP-256, A256KW")
	}
	if _, known := places(c.Cloud); !known && c.Cloud != "custom" {
		report("cloud", "must be one of public, government, china, custom")
	}
	c.Validate(report)
	c.Auth.check(report)
	return errors.Join(problems...)
}

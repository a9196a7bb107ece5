package vault

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// Config is a key in the transit engine of HashiCorp Vault or OpenBao. Nothing else has a say: the environment variables
// VAULT_* and BAO_*, the proxy settings of the environment and redirects are ignored.
type Config struct {
	// The addresses of the servers of one cluster, such as `https://vault-1.example.com:8200`. They are tried in this order
	// until one answers, and the one that answered stays in use until it fails. Name each node: a standby that answers with
	// a redirect is passed over for the next address, because a token must not follow a redirect to an unknown host.
	Addresses []string `yaml:"addresses" required:"true" max:"16"`

	// Allows `http://` for hosts other than this one. Everything then passes the network in clear, the token and what is
	// wrapped included: for a laboratory only.
	AllowPlainHTTP bool `yaml:"allowPlainHTTP"`

	// The path where the transit engine is mounted, without slashes at its ends.
	Mount string `yaml:"mount" default:"transit"`

	// The name of the transit key. Its type must be aes256-gcm96, aes128-gcm96, chacha20-poly1305 or (OpenBao)
	// xchacha20-poly1305, and it must not be derived.
	Key string `yaml:"key" required:"true"`

	// The namespace that holds both the transit engine and the authentication method. Vault Community has none.
	Namespace string `yaml:"namespace"`

	// The file with the certificates (PEM) of the authorities that the servers' certificates are checked against. By default
	// those of the operating system. The file is read again when its content changes.
	CAFile string `yaml:"caFile"`

	// The name that the servers' certificates must be made out to. By default the host of the address.
	TLSServerName string `yaml:"tlsServerName"`

	// The file with the client certificate (PEM) for servers that ask every client for one. With `auth.cert` leave it out: the
	// certificate there is used.
	ClientCertFile string `yaml:"clientCertFile"`

	// The file with the private key (PEM) of clientCertFile.
	ClientKeyFile credential.File `yaml:"clientKeyFile"`

	// How to log in: exactly one method.
	Auth Auth `yaml:"auth" required:"true"`
}

// ID returns the name of the key in envelopes, logs and metrics. Addresses and namespaces move, so neither is in it.
func (c Config) ID() string { return "vault:" + c.Mount + "/" + c.Key }

// path returns the API path of an operation on the key.
func (c Config) path(operation string) string { return c.Mount + "/" + operation + "/" + c.Key }

// keyName is what transit accepts as the name of a key.
var keyName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)

// Validate reports what no tag can say about the fields.
func (c *Config) Validate(report func(field, problem string)) {
	for i, address := range c.Addresses {
		if problem := c.addressProblem(address); problem != "" {
			report(fmt.Sprintf("addresses[%d]", i), problem)
		}
	}
	if !keyName.MatchString(c.Key) || strings.Contains(c.Key, "..") || len(c.Key) > 64 {
		report("key", "is no name that transit accepts: use 1 to 64 letters, digits, '_', '-' and single '.', "+
			"with a letter, digit or '_' at both ends")
	}
	reportMount(c.Mount, report)
	if c.Namespace != "" && pathProblem(strings.Trim(c.Namespace, "/")) != "" {
		report("namespace", pathProblem(strings.Trim(c.Namespace, "/")))
	}
	reportPath("caFile", c.CAFile, report)
	c.validateClientCert(report)
}

func (c *Config) validateClientCert(report func(field, problem string)) {
	reportPath("clientCertFile", c.ClientCertFile, report)
	reportFile("clientKeyFile", c.ClientKeyFile, report)
	if (c.ClientCertFile == "") != (c.ClientKeyFile == "") {
		report("clientKeyFile", "clientCertFile and clientKeyFile belong together: set both, or neither")
	}
	if c.ClientCertFile != "" && c.Auth.Cert != nil {
		report("clientCertFile", "a connection shows one certificate: remove it, auth.cert names the one that is used")
	}
}

// addressProblem returns what is wrong with an address, or nothing.
func (c *Config) addressProblem(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return "is no URL: write https://HOST:PORT"
	}
	switch {
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "has more than a host: write https://HOST:PORT, without user, query and fragment"
	case u.Path != "" && u.Path != "/" && pathProblem(strings.Trim(u.Path, "/")) != "":
		return "has a path that is not plain: write https://HOST:PORT"
	case u.Scheme == "https":
		return ""
	case u.Scheme != "http":
		return "has another scheme than https: write https://HOST:PORT"
	case !isLoopback(u.Hostname()) && !c.AllowPlainHTTP:
		return "would send the token in clear: write https://, or set allowPlainHTTP in a laboratory"
	}
	return ""
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func reportMount(mount string, report func(field, problem string)) {
	if problem := pathProblem(mount); problem != "" {
		report("mount", problem)
	}
}

// segment is one part of an API path. It is stricter than Vault where a name could mean something else in a URL.
var segment = regexp.MustCompile(`^[A-Za-z0-9_.~@:=-]{1,128}$`)

// pathProblem returns what is wrong with a path of one or more segments, or nothing: what it accepts cannot lead a request
// out of its place in the API.
func pathProblem(path string) string {
	for part := range strings.SplitSeq(path, "/") {
		if !segment.MatchString(part) || strings.Contains(part, "..") || part == "." {
			return "is no plain path: use letters, digits and '_', '-', '.', '~', '@', ':', '=' between single slashes, " +
				"without a slash at either end and without '..'"
		}
	}
	return ""
}

func reportFile(field string, file credential.File, report func(field, problem string)) {
	if file == "" {
		return
	}
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

// check runs every Validate of c and below it, for callers that did not decode c from a document.
func (c *Config) check() error {
	var problems []error
	under := func(prefix string) func(field, problem string) {
		return func(field, problem string) {
			problems = append(problems, fmt.Errorf("%s%s %s", prefix, field, problem))
		}
	}
	if len(c.Addresses) == 0 {
		under("")("addresses", "is empty: name at least one server")
	}
	c.Validate(under(""))
	c.Auth.check(under)
	return errors.Join(problems...)
}

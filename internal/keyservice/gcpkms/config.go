package gcpkms

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/trousseau-io/trousseau/internal/credential"
)

// Config is a symmetric key in Google Cloud KMS.
type Config struct {
	// The resource name of the key, as `gcloud kms keys list --format='value(name)'` prints it:
	// `projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY`. Its purpose must be symmetric encryption
	// (ENCRYPT_DECRYPT). Write the project by its id, or by its number, but in the same way on every node: the default of the
	// key's id is made of it.
	Key string `yaml:"key" required:"true"`

	// Where Cloud KMS answers. Set it for a regional endpoint (`https://cloudkms.europe-west3.rep.googleapis.com`), for
	// Private Service Connect or for another universe. `http://` is taken for loopback addresses alone.
	Endpoint string `yaml:"endpoint" default:"https://cloudkms.googleapis.com"`

	// The file with the credential, as Google's tools write it: a workload identity federation configuration
	// (`external_account`), a service account's key (`service_account`), or one of these that impersonates a service account
	// (`impersonated_service_account`). The file is read again when its content changes. By default Application Default
	// Credentials are used: the file that GOOGLE_APPLICATION_CREDENTIALS names, else the one that gcloud wrote for this
	// user, else the service account of the virtual machine.
	CredentialsFile credential.File `yaml:"credentialsFile"`

	// The project that calls are counted against, if it is not the key's or the credential's own.
	QuotaProject string `yaml:"quotaProject"`
}

// keyName is the resource name of a key: project, location, key ring, key.
var keyName = regexp.MustCompile(`^projects/([a-z0-9][a-z0-9.:-]{0,62})/locations/([a-z0-9-]{1,63})` +
	`/keyRings/([A-Za-z0-9_-]{1,63})/cryptoKeys/([A-Za-z0-9_-]{1,63})$`)

// projectName is the id or the number of a project.
var projectName = regexp.MustCompile(`^[a-z0-9][a-z0-9.:-]{0,62}$`)

// ID returns the name of the key in envelopes, logs and metrics: "gcpkms:" and the resource name without its fixed words.
// Nothing in it can move: Google Cloud renames no project, and moves no key to another location.
func (c Config) ID() string { return "gcpkms:" + keyName.ReplaceAllString(c.Key, "$1/$2/$3/$4") }

// Validate reports what no tag can say about the fields.
func (c *Config) Validate(report func(field, problem string)) {
	switch {
	case strings.Contains(c.Key, "/cryptoKeyVersions/"):
		report("key", "names a version: write the name of the key alone, and pin a version in keys[].version if need be")
	case !keyName.MatchString(c.Key):
		report("key", "is no resource name of a key: write projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY")
	}
	if _, _, err := parseEndpoint(c.Endpoint); err != nil {
		report("endpoint", err.Error())
	}
	if c.CredentialsFile != "" {
		if err := c.CredentialsFile.Validate(); err != nil {
			report("credentialsFile", err.Error())
		}
	}
	if c.QuotaProject != "" && !projectName.MatchString(c.QuotaProject) {
		report("quotaProject", "is no id of a project: write small letters, digits and hyphens")
	}
}

// check runs Validate, for callers that did not decode c from a document.
func (c *Config) check() error {
	var problems []error
	c.Validate(func(field, problem string) { problems = append(problems, fmt.Errorf("%s %s", field, problem)) })
	return errors.Join(problems...)
}

// parseEndpoint returns the host and port of an endpoint, and whether it is plain HTTP/2 without TLS.
func parseEndpoint(endpoint string) (hostPort string, plain bool, err error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return "", false, errors.New("is no URL: write https://HOST")
	}
	port := u.Port()
	switch {
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", false, errors.New("has more than a host: write https://HOST, without user, path, query and fragment")
	case u.Scheme == "https" && port == "":
		port = "443"
	case u.Scheme == "https":
	case u.Scheme == "http" && isLoopback(u.Hostname()) && port != "":
		plain = true
	case u.Scheme == "http":
		return "", false, errors.New("would send the token in clear: write https:// (http:// is for 127.0.0.1:PORT alone)")
	default:
		return "", false, errors.New("has another scheme than https: write https://HOST")
	}
	return net.JoinHostPort(u.Hostname(), port), plain, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

package awskms

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// Config is a key in AWS KMS. The Region and the account are those of the ARN. Environment variables (AWS_*) have a say
// in how to log in, and none in where requests to KMS go, except for HTTPS_PROXY and NO_PROXY.
type Config struct {
	// The ARN of a symmetric encryption key (SYMMETRIC_DEFAULT) with KMS's own or imported material:
	// `arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab`. The ARN of an alias is taken too,
	// and followed once: until the daemon restarts, the key is the one that the alias pointed to when it was first
	// asked. Prefer the key's own ARN: whoever may change an alias decides which key the next start uses.
	KeyARN string `yaml:"keyARN" required:"true"`

	// Another address for KMS than the Region's own, such as that of a VPC endpoint without private DNS:
	// `https://vpce-0123-abcd.kms.eu-central-1.vpce.amazonaws.com`. `http://` is taken for this host only.
	Endpoint string `yaml:"endpoint"`

	// Uses the endpoints of KMS and STS that run FIPS 140 validated cryptography. Not every Region has them. With
	// endpoint, name the FIPS one there instead.
	FIPS bool `yaml:"fips"`

	// The file with the credentials, in the format of ~/.aws/credentials and for this daemon alone (mode 0600). Its profile
	// may hold access keys, `role_arn` with `web_identity_token_file`, or a `credential_process`. It is read again when
	// its content changes. With it, credentials are looked for nowhere else. By default the SDK looks where it always does: AWS_* variables, a web identity token (IRSA), ~/.aws, the container's credentials, the instance's metadata.
	CredentialsFile string `yaml:"credentialsFile"`

	// The profile to use, of credentialsFile or of the files below ~/.aws. With it the variables AWS_ACCESS_KEY_ID and
	// AWS_WEB_IDENTITY_TOKEN_FILE are not looked at. By default AWS_PROFILE or `default`.
	Profile string `yaml:"profile"`

	// A role to assume with what was found otherwise: for a key in another account, or to give each cluster its own role.
	AssumeRole *AssumeRole `yaml:"assumeRole"`
}

// AssumeRole is a role that STS hands out credentials for.
type AssumeRole struct {
	// The ARN of the role: `arn:aws:iam::111122223333:role/trousseau`.
	RoleARN string `yaml:"roleARN" required:"true" pattern:"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]{1,512}$" says:"arn:aws:iam::ACCOUNT:role/NAME"`

	// The external id that the role's trust policy asks for, if it does.
	ExternalID string `yaml:"externalID" pattern:"^[A-Za-z0-9_+=,.@:/-]{2,1000}$" says:"2 to 1000 letters, digits and _+=,.@:/-"`
}

// keyARN takes partition, Region, account and resource apart. It is stricter than AWS where a typing error would be found
// only by the first call.
var keyARN = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z]{2,}(?:-[a-z]+)+-[0-9]+):([0-9]{12}):((?:key/[A-Za-z0-9-]{1,64})|(?:alias/[A-Za-z0-9/_-]{1,250}))$`)

// target is what a keyARN says.
type target struct{ region, account, resource string }

func (c Config) target() target {
	m := keyARN.FindStringSubmatch(c.KeyARN)
	if m == nil {
		return target{}
	}
	return target{m[1], m[2], m[3]}
}

// alias reports whether keyARN names an alias rather than a key.
func (c Config) alias() bool { return strings.HasPrefix(c.target().resource, "alias/") }

// ID returns the name of the key in envelopes, logs and metrics: "awskms:", the account, and the key's id or the alias. The
// Region is not in it, because replicas of a multi-Region key are one key; key ids differ between Regions anyway.
func (c Config) ID() string {
	t := c.target()
	return "awskms:" + t.account + "/" + strings.TrimPrefix(t.resource, "key/")
}

// Validate reports what no tag can say about the fields.
func (c *Config) Validate(report func(field, problem string)) {
	switch {
	case !keyARN.MatchString(c.KeyARN):
		report("keyARN", "is no ARN of a KMS key: write arn:aws:kms:REGION:ACCOUNT:key/ID, as `aws kms describe-key` prints it")
	case strings.HasPrefix(c.target().resource, "alias/aws/"):
		report("keyARN", "is one of the keys that AWS manages for its own services: make a key with `aws kms create-key`")
	}
	if c.Endpoint != "" {
		if problem := endpointProblem(c.Endpoint); problem != "" {
			report("endpoint", problem)
		}
		if c.FIPS {
			report("fips", "has no say where endpoint is set: name the FIPS endpoint there, and remove fips")
		}
	}
	if c.CredentialsFile != "" && !filepath.IsAbs(c.CredentialsFile) {
		report("credentialsFile", "is not absolute: write the whole path")
	}
}

// endpointProblem returns what is wrong with the address of an endpoint, or nothing.
func endpointProblem(endpoint string) string {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return "is no URL: write https://HOST"
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return "has more than a host: write https://HOST"
	case u.Scheme == "https":
		return ""
	case u.Scheme != "http":
		return "has another scheme than https: write https://HOST"
	case !isLoopback(u.Hostname()):
		return "would send what is wrapped in clear: write https://HOST"
	}
	return ""
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// check runs Validate, for callers that did not decode c from a document.
func (c *Config) check() error {
	var problems []error
	c.Validate(func(field, problem string) { problems = append(problems, fmt.Errorf("%s %s", field, problem)) })
	return errors.Join(problems...)
}

package vault

import "github.com/trousseau-io/trousseau/internal/credential"

// Auth is how the key logs in. The files are read at each log in. A change of their content is noticed within seconds and
// leads to a new log in.
type Auth struct {
	// The file with a token. It is renewed while the server allows it, and never revoked. Use a periodic token, since
	// any other ends at its maximum lifetime, or let an agent write the file.
	TokenFile credential.File `yaml:"tokenFile" oneof:"authentication method"`

	// AppRole: a role id and a secret id. Good for static pods and systemd units.
	AppRole *AppRole `yaml:"approle" oneof:"authentication method"`

	// A signed JWT from a file, such as a SPIFFE JWT-SVID or a cloud's identity document.
	JWT *JWT `yaml:"jwt" oneof:"authentication method"`

	// A token of a Kubernetes service account, checked by the API server of a cluster. Not of the cluster whose API
	// server needs this key to start: neither could start before the other.
	Kubernetes *Kubernetes `yaml:"kubernetes" oneof:"authentication method"`

	// A TLS client certificate.
	Cert *Cert `yaml:"cert" oneof:"authentication method"`

	// A user name and a password.
	Userpass *Userpass `yaml:"userpass" oneof:"authentication method"`
}

// Validate checks the file; the methods check themselves.
func (a *Auth) Validate(report func(field, problem string)) {
	reportFile("tokenFile", a.TokenFile, report)
}

// AppRole logs in with AppRole.
type AppRole struct {
	// The path where the method is mounted, below auth/.
	Mount string `yaml:"mount" default:"approle"`

	// The role id. It is not secret.
	RoleID string `yaml:"roleID" required:"true"`

	// The file with the secret id, or with a wrapping token for one (see secretIDWrapped).
	SecretIDFile credential.File `yaml:"secretIDFile" required:"true"`

	// Says that secretIDFile holds a response-wrapping token, as `vault write -wrap-ttl=5m -f auth/approle/role/NAME/secret-id`
	// prints it. It is unwrapped once, after a check that it comes from this AppRole mount. The secret id is then kept
	// in memory only: after a restart the file needs a new wrapping token.
	SecretIDWrapped bool `yaml:"secretIDWrapped"`
}

// Validate checks names and files.
func (a *AppRole) Validate(report func(field, problem string)) {
	reportMount(a.Mount, report)
	reportFile("secretIDFile", a.SecretIDFile, report)
}

// JWT logs in with a JWT.
type JWT struct {
	// The path where the method is mounted, below auth/.
	Mount string `yaml:"mount" default:"jwt"`

	// The role to log in to. By default the one that the method is configured with.
	Role string `yaml:"role"`

	// The file with the JWT. Whoever issues it must replace it before it expires.
	JWTFile credential.File `yaml:"jwtFile" required:"true"`
}

// Validate checks names and files.
func (j *JWT) Validate(report func(field, problem string)) {
	reportMount(j.Mount, report)
	reportFile("jwtFile", j.JWTFile, report)
}

// Kubernetes logs in with a service account's token.
type Kubernetes struct {
	// The path where the method is mounted, below auth/.
	Mount string `yaml:"mount" default:"kubernetes"`

	// The role to log in to.
	Role string `yaml:"role" required:"true"`

	// The file with the service account's token.
	TokenFile credential.File `yaml:"tokenFile" required:"true"`
}

// Validate checks names and files.
func (k *Kubernetes) Validate(report func(field, problem string)) {
	reportMount(k.Mount, report)
	reportFile("tokenFile", k.TokenFile, report)
}

// Cert logs in with a TLS client certificate.
type Cert struct {
	// The path where the method is mounted, below auth/.
	Mount string `yaml:"mount" default:"cert"`

	// The certificate role to log in to. By default the server tries all of them.
	Role string `yaml:"role"`

	// The file with the certificate (PEM), intermediate ones after it.
	CertFile string `yaml:"certFile" required:"true"`

	// The file with its private key (PEM).
	KeyFile credential.File `yaml:"keyFile" required:"true"`
}

// Validate checks names and files.
func (c *Cert) Validate(report func(field, problem string)) {
	reportMount(c.Mount, report)
	reportPath("certFile", c.CertFile, report)
	reportFile("keyFile", c.KeyFile, report)
}

// Userpass logs in with a user name and a password.
type Userpass struct {
	// The path where the method is mounted, below auth/.
	Mount string `yaml:"mount" default:"userpass"`

	// The user name.
	Username string `yaml:"username" required:"true"`

	// The file with the password.
	PasswordFile credential.File `yaml:"passwordFile" required:"true"`
}

// Validate checks names and files.
func (u *Userpass) Validate(report func(field, problem string)) {
	reportMount(u.Mount, report)
	if !segment.MatchString(u.Username) || pathProblem(u.Username) != "" {
		report("username", "is no plain name: use letters, digits and '_', '-', '.', '~', '@', ':', '='")
	}
	reportFile("passwordFile", u.PasswordFile, report)
}

// method returns the method that is set; check says that there is exactly one.
func (a *Auth) method() method {
	switch {
	case a.AppRole != nil:
		return &approleLogin{AppRole: *a.AppRole}
	case a.JWT != nil:
		return jwtLogin{*a.JWT}
	case a.Kubernetes != nil:
		return kubernetesLogin{*a.Kubernetes}
	case a.Cert != nil:
		return certLogin{*a.Cert}
	case a.Userpass != nil:
		return userpassLogin{*a.Userpass}
	}
	return tokenLogin{a.TokenFile}
}

// check says what the decoder says of documents: exactly one method, and what its Validate reports.
func (a *Auth) check(under func(prefix string) func(field, problem string)) {
	methods := 0
	count := func(isSet bool) bool {
		if isSet {
			methods++
		}
		return isSet
	}
	if count(a.TokenFile != "") {
		a.Validate(under("auth."))
	}
	if count(a.AppRole != nil) {
		a.AppRole.Validate(under("auth.approle."))
	}
	if count(a.JWT != nil) {
		a.JWT.Validate(under("auth.jwt."))
	}
	if count(a.Kubernetes != nil) {
		a.Kubernetes.Validate(under("auth.kubernetes."))
	}
	if count(a.Cert != nil) {
		a.Cert.Validate(under("auth.cert."))
	}
	if count(a.Userpass != nil) {
		a.Userpass.Validate(under("auth.userpass."))
	}
	if methods != 1 {
		under("")("auth", "needs exactly one method: set one of tokenFile, approle, jwt, kubernetes, cert, userpass")
	}
}

package azurekv

import "github.com/trousseau-io/trousseau/internal/credential"

// Auth is how the key logs in. Files are read at each log in, which happens when a token ends: after an hour or a day, as
// Entra ID has it. So a secret that is replaced is used from the next log in on, and nothing needs a restart.
type Auth struct {
	// The managed identity of the machine that the daemon runs on. Nothing secret is kept anywhere: the best choice on
	// Azure.
	ManagedIdentity *ManagedIdentity `yaml:"managedIdentity" oneof:"authentication method"`

	// A token of somebody else whom the application trusts (workload identity federation): a projected token of a
	// Kubernetes service account, a SPIFFE JWT-SVID. Not of the cluster whose API server needs this key to start: neither
	// could start before the other.
	WorkloadIdentity *WorkloadIdentity `yaml:"workloadIdentity" oneof:"authentication method"`

	// An application with a client certificate.
	ClientCertificate *ClientCertificate `yaml:"clientCertificate" oneof:"authentication method"`

	// An application with a client secret.
	ClientSecret *ClientSecret `yaml:"clientSecret" oneof:"authentication method"`
}

// ManagedIdentity logs in as the machine.
type ManagedIdentity struct {
	// The client id of a user-assigned identity. By default the system-assigned one is used.
	ClientID string `yaml:"clientID" pattern:"^[0-9a-fA-F-]{36}$" says:"a GUID"`
}

// WorkloadIdentity logs in with a token of another issuer.
type WorkloadIdentity struct {
	// The directory (tenant) id of the application. It must be the vault's.
	TenantID string `yaml:"tenantID" required:"true" pattern:"^[0-9a-fA-F-]{36}$" says:"a GUID"`

	// The application (client) id.
	ClientID string `yaml:"clientID" required:"true" pattern:"^[0-9a-fA-F-]{36}$" says:"a GUID"`

	// The file with the token. Whoever issues it must replace it before it expires.
	TokenFile credential.File `yaml:"tokenFile" required:"true"`
}

// Validate checks the file.
func (w *WorkloadIdentity) Validate(report func(field, problem string)) {
	reportFile("tokenFile", w.TokenFile, report)
}

// ClientCertificate logs in with a certificate.
type ClientCertificate struct {
	// The directory (tenant) id of the application. It must be the vault's.
	TenantID string `yaml:"tenantID" required:"true" pattern:"^[0-9a-fA-F-]{36}$" says:"a GUID"`

	// The application (client) id.
	ClientID string `yaml:"clientID" required:"true" pattern:"^[0-9a-fA-F-]{36}$" says:"a GUID"`

	// The file with the certificate (PEM) that the application knows.
	CertFile string `yaml:"certFile" required:"true"`

	// The file with its private key (PEM), which must be RSA.
	KeyFile credential.File `yaml:"keyFile" required:"true"`
}

// Validate checks the files.
func (c *ClientCertificate) Validate(report func(field, problem string)) {
	reportPath("certFile", c.CertFile, report)
	reportFile("keyFile", c.KeyFile, report)
}

// ClientSecret logs in with a secret.
type ClientSecret struct {
	// The directory (tenant) id of the application. It must be the vault's.
	TenantID string `yaml:"tenantID" required:"true" pattern:"^[0-9a-fA-F-]{36}$" says:"a GUID"`

	// The application (client) id.
	ClientID string `yaml:"clientID" required:"true" pattern:"^[0-9a-fA-F-]{36}$" says:"a GUID"`

	// The file with the secret's value (not its id).
	SecretFile credential.File `yaml:"secretFile" required:"true"`
}

// Validate checks the file.
func (c *ClientSecret) Validate(report func(field, problem string)) {
	reportFile("secretFile", c.SecretFile, report)
}

// tenant returns the directory that the identity belongs to, or nothing for a managed identity, which belongs to one
// that Azure knows.
func (a Auth) tenant() string {
	switch {
	case a.WorkloadIdentity != nil:
		return a.WorkloadIdentity.TenantID
	case a.ClientCertificate != nil:
		return a.ClientCertificate.TenantID
	case a.ClientSecret != nil:
		return a.ClientSecret.TenantID
	}
	return ""
}

// check says what the decoder says of documents: exactly one method, its fields, and what its Validate reports.
func (a Auth) check(report func(field, problem string)) {
	under := func(method, tenant, client string) func(field, problem string) {
		report := func(field, problem string) { report("auth."+method+"."+field, problem) }
		if tenant == "" || client == "" {
			report("tenantID", "and clientID are required")
		}
		return report
	}
	methods := 0
	if a.ManagedIdentity != nil {
		methods++
	}
	if w := a.WorkloadIdentity; w != nil {
		methods++
		w.Validate(under("workloadIdentity", w.TenantID, w.ClientID))
	}
	if c := a.ClientCertificate; c != nil {
		methods++
		c.Validate(under("clientCertificate", c.TenantID, c.ClientID))
	}
	if c := a.ClientSecret; c != nil {
		methods++
		c.Validate(under("clientSecret", c.TenantID, c.ClientID))
	}
	if methods != 1 {
		report("auth", "needs exactly one method: managedIdentity, workloadIdentity, clientCertificate or clientSecret")
	}
}

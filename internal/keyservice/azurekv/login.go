package azurekv

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// entra gets tokens. Each comes from a credential of the SDK that is made anew of what the files hold at the time, so that no
// file need be watched. The SDK keeps the token and asks for the next one before it ends, one caller at a time.
type entra struct {
	config Config
	web    *http.Client
	log    *slog.Logger
}

// GetToken implements azcore.TokenCredential. Its errors are *keyservice.Error and hold none of the SDK's texts: those show
// whole answers, which may be tokens.
func (e *entra) GetToken(ctx context.Context, want policy.TokenRequestOptions) (azcore.AccessToken, error) {
	const op = "logging in to Entra ID"
	if tenant := e.config.Auth.tenant(); tenant != "" && !strings.EqualFold(tenant, want.TenantID) {
		return azcore.AccessToken{}, &keyservice.Error{
			Kind: keyservice.Denied, Op: op, Hint: "use an application of the vault's directory, and its id in tenantID",
			Err: fmt.Errorf("the vault takes tokens of the directory %.40q, the application is in %q", want.TenantID, tenant),
		}
	}
	seen := &witness{web: e.web}
	secret, source, err := e.credential(seen, want.TenantID)
	defer secret.Wipe()
	if err != nil {
		return azcore.AccessToken{}, &keyservice.Error{Kind: keyservice.Denied, Op: op, Err: err, Hint: hintCredential}
	}
	token, err := source.GetToken(ctx, want)
	if err != nil {
		return azcore.AccessToken{}, seen.judge(ctx, op, string(secret.Bytes()))
	}
	e.log.Info("logged in", "until", token.ExpiresOn)
	return token, nil
}

// credential reads the files and returns what they hold, for the caller to wipe, and what logs in with it. tenant is the
// configured one as the vault spells it: the SDK compares letter by letter.
func (e *entra) credential(seen *witness, tenant string) (secret credential.Secret, source azcore.TokenCredential, err error) {
	options := clientOptions(seen)
	options.Cloud = e.config.entra()
	switch auth := e.config.Auth; {
	case auth.ManagedIdentity != nil:
		identity := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
		if auth.ManagedIdentity.ClientID != "" {
			identity.ID = azidentity.ClientID(auth.ManagedIdentity.ClientID)
		}
		source, err = azidentity.NewManagedIdentityCredential(identity)
	case auth.WorkloadIdentity != nil:
		w := auth.WorkloadIdentity
		if secret, err = w.TokenFile.Read(); err == nil {
			assertion := string(secret.Bytes())
			source, err = azidentity.NewClientAssertionCredential(tenant, w.ClientID,
				func(context.Context) (string, error) { return assertion, nil },
				&azidentity.ClientAssertionCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		}
	case auth.ClientSecret != nil:
		c := auth.ClientSecret
		if secret, err = c.SecretFile.Read(); err == nil {
			source, err = azidentity.NewClientSecretCredential(tenant, c.ClientID, string(secret.Bytes()),
				&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		}
	case auth.ClientCertificate != nil:
		c := auth.ClientCertificate
		var pair tls.Certificate
		if pair, err = c.read(); err == nil {
			source, err = azidentity.NewClientCertificateCredential(tenant, c.ClientID,
				[]*x509.Certificate{pair.Leaf}, pair.PrivateKey,
				&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		}
	}
	return secret, source, err
}

// read returns the certificate and its key.
func (c *ClientCertificate) read() (tls.Certificate, error) {
	cert, err := os.ReadFile(c.CertFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading the client certificate: %w", err)
	}
	key, err := c.KeyFile.Read()
	if err != nil {
		return tls.Certificate{}, err
	}
	defer key.Wipe()
	pair, err := tls.X509KeyPair(cert, key.Bytes())
	if err != nil {
		return tls.Certificate{}, errors.New("reading the client certificate: it and its key are no pair of PEM files")
	}
	return pair, nil
}

// witness is the transport of one log in. It remembers how the last request went, which the SDK's errors tell as text only.
type witness struct {
	web    *http.Client
	failed error // of the network
	status int   // of an answer that was a refusal, else 0
	body   []byte
}

// Do implements policy.Transporter.
func (w *witness) Do(r *http.Request) (*http.Response, error) {
	*w = witness{web: w.web}
	answer, err := w.web.Do(r)
	if err == nil && answer.StatusCode != http.StatusOK {
		w.status = answer.StatusCode
		if w.body, err = io.ReadAll(answer.Body); err == nil {
			_ = answer.Body.Close() // all was read
			answer.Body = io.NopCloser(bytes.NewReader(w.body))
		}
	}
	w.failed = err
	return answer, err
}

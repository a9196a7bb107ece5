package tpm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
)

// again is how long an answer of the TPM that is an error stands. API servers ask for many keys at once, and a TPM takes most
// of a second.
const again = 5 * time.Second

// unsealer gets the keystore's key from the TPM. It implements local.Secret.
type unsealer struct {
	config Config

	mu      sync.Mutex
	refusal refusal
}

// refusal is the TPM's last answer, if that was an error.
type refusal struct {
	err  error // nil if there was none
	of   credential.Fingerprint
	last time.Time
}

// Fingerprint is that of the two files which the TPM's answer depends on.
func (u *unsealer) Fingerprint() (credential.Fingerprint, error) {
	content, err := u.config.readSealed()
	if err != nil {
		return 0, err
	}
	auth, err := u.config.auth()
	if err != nil {
		return 0, err
	}
	defer auth.Wipe()
	both := credential.NewSecret(slices.Concat(content, auth.Bytes()))
	defer both.Wipe()
	return both.Fingerprint(), nil
}

// Read returns the keystore's key. A wrong authorization, which the TPM counts, is not tried again before a file changes,
// anything else not at once.
func (u *unsealer) Read(ctx context.Context) (credential.Secret, error) {
	of, err := u.Fingerprint()
	if err != nil {
		return credential.Secret{}, err
	}
	if r := u.refused(); r.err != nil && r.of == of && (errors.Is(r.err, tpmseal.ErrAuth) || time.Since(r.last) < again) {
		return credential.Secret{}, r.err
	}
	sealed, auth, err := u.config.sealed()
	if err != nil {
		return credential.Secret{}, err
	}
	defer auth.Wipe()
	secret, err := u.config.Device.Unseal(ctx, sealed, auth)
	u.mu.Lock()
	u.refusal = refusal{err: err, of: of, last: time.Now()}
	u.mu.Unlock()
	return secret, err
}

// refused returns the TPM's last answer.
func (u *unsealer) refused() refusal {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.refusal
}

// sealed reads the two files. The caller wipes the auth value, which is the zero Secret if none is configured.
func (c *Config) sealed() (*tpmseal.SealedKey, credential.Secret, error) {
	content, err := c.readSealed()
	if err != nil {
		return nil, credential.Secret{}, err
	}
	sealed, err := tpmseal.ParseSealedKey(content)
	if err != nil {
		return nil, credential.Secret{}, fmt.Errorf("%q: %w", c.SealedKey, err)
	}
	auth, err := c.auth()
	return sealed, auth, err
}

func (c *Config) auth() (credential.Secret, error) {
	if c.AuthFile == "" {
		return credential.Secret{}, nil
	}
	auth, err := c.AuthFile.Read()
	if err != nil {
		return credential.Secret{}, &keyservice.Error{
			Kind: keyservice.Denied, Op: "reading the auth file", Err: err,
			Hint: "write the secret into authFile, with mode 0600, for the daemon's user",
		}
	}
	return auth, nil
}

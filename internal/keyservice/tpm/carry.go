package tpm

import (
	"context"
	"fmt"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
)

// Request writes a new file that asks another node for the keystore's key, for this node in its present state. It needs the
// TPM, and neither keystore nor sealed key.
func (c Config) Request(ctx context.Context, path string, pcrs tpmseal.PCRs) (*tpmseal.Request, error) {
	request, err := c.Device.Request(ctx, pcrs)
	if err == nil {
		err = writeNew(path, request.Encode())
	}
	if err != nil {
		return nil, fmt.Errorf("making the request %q: %w", path, err)
	}
	return request, nil
}

// Grant writes a new file with the keystore's key, which only the node opens that made the request. The fingerprint is what
// that node printed.
func (c Config) Grant(ctx context.Context, request, fingerprint, path string) (grant *tpmseal.Grant, err error) {
	content, err := readAny(request)
	if err != nil {
		return nil, err
	}
	asked, err := tpmseal.ParseRequest(content)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", request, err)
	}
	err = c.withVerifiedKey(ctx, func(key credential.Secret) error {
		if grant, err = asked.Grant(key, fingerprint); err != nil {
			return err
		}
		return writeNew(path, grant.Encode())
	})
	return grant, wrapped(fmt.Sprintf("granting the request %q", request), err)
}

// Accept opens what another node granted to this one, checks that it opens the keystore, and seals it to the present values
// of the PCRs that the request named. It replaces a sealed key that is there.
func (c Config) Accept(ctx context.Context, path string) (Verified, error) {
	content, err := readAny(path)
	if err != nil {
		return Verified{}, err
	}
	grant, err := tpmseal.ParseGrant(content)
	if err != nil {
		return Verified{}, fmt.Errorf("%q: %w", path, err)
	}
	key, err := c.Device.OpenGrant(ctx, grant)
	if err != nil {
		return Verified{}, fmt.Errorf("%q: %w", path, err)
	}
	defer key.Wipe()
	return c.install(ctx, key, grant.PCRs())
}

package escrow

import (
	"context"
	"fmt"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// minRSA is the size in bits below which an RSA key is not for what is kept beyond 2030: NIST SP 800-57 part 1.
const minRSA = 3072

// largeShare is how many bytes a wrapped share may take in each object before that is worth knowing.
const largeShare = 512

// Inspect looks at the recipients and wraps a few bytes for them, which runs their plugins.
func (k *Key) Inspect(ctx context.Context) ([]finding.Finding, error) {
	if err := k.usable(ctx); err != nil {
		return nil, fail("inspecting escrow key", err)
	}
	id := Config{}.ID()
	found := []finding.Finding{keyservice.Unauthenticated(id)}
	add := func(rule string, severity finding.Severity, what, fix string) {
		found = append(found, finding.Finding{Rule: rule, Severity: severity, Where: id, What: what, Fix: fix})
	}
	if len(k.recipients) == 1 {
		add("escrow-single-recipient", finding.Info,
			"there is one recipient: who loses its identity has no escrow, and does not notice",
			"add a recipient whose identity is kept elsewhere, and open something with each of them once a year")
	}
	for _, r := range k.recipients {
		if r.rsaBits != 0 && r.rsaBits < minRSA {
			add("escrow-rsa-small", finding.Warning, fmt.Sprintf("the RSA key of a recipient has %d bits", r.rsaBits),
				"replace it by one made with age-keygen")
		}
	}
	switch wrapped, err := k.Wrap(ctx, "", make([]byte, 32), nil); {
	case err != nil:
		add("escrow-wrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))
	case len(wrapped.Bytes) > largeShare:
		add("escrow-large", finding.Info, fmt.Sprintf("%d bytes are stored for it in each object", len(wrapped.Bytes)),
			"if etcd is short of space, use fewer recipients, or X25519 instead of post-quantum and RSA")
	}
	return found, nil
}

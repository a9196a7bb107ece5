package tpm

import (
	"cmp"
	"context"
	"fmt"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Inspect looks at the sealed key, the TPM and, where that opens it, the keystore in use.
func (k *Key) Inspect(ctx context.Context) ([]finding.Finding, error) {
	var found []finding.Finding
	inner, err := k.opened(ctx)
	switch {
	case err == nil:
		if found, err = inner.Inspect(ctx); err != nil {
			return nil, err
		}
	case ctx.Err() != nil || k.unsealer.refused().err == nil: // ended, or closed
		return nil, err
	default:
		found = append(found, finding.Finding{
			Rule: "tpm-refuses", Severity: finding.Error, Where: k.config.Keystore,
			What: fmt.Sprintf("the TPM does not open the keystore: %v", err), Fix: keyservice.HintOf(err),
		})
	}
	found = append(found, k.lookAtSealedKey(ctx, inner != nil)...)
	if f, ok := k.lookAtDevice(); ok {
		found = append(found, f)
	}
	for i := range found {
		found[i].Where = cmp.Or(found[i].Where, k.config.SealedKey)
	}
	return found, nil
}

// lookAtSealedKey finds what a daemon with the keystore open does not notice: it asks the TPM again when it restarts.
func (k *Key) lookAtSealedKey(ctx context.Context, open bool) (found []finding.Finding) {
	sealed, auth, err := k.config.sealed()
	auth.Wipe()
	if err != nil {
		return []finding.Finding{{
			Rule: "tpm-sealed-key-unusable", Severity: finding.Error,
			What: fmt.Sprintf("a daemon that starts now does not open the keystore: %v", err), Fix: keyservice.HintOf(err),
		}}
	}
	if sealed.PCRs() == 0 {
		found = append(found, finding.Finding{
			Rule: "tpm-no-pcrs", Severity: finding.Warning,
			What: "the key is sealed to no PCR: whatever system is started on this node can open it",
			Fix:  "after the update that it was done for: trousseau tpm reseal --pcrs 7",
		})
	}
	look, err := k.config.Device.Look(ctx, sealed)
	if err != nil {
		return append(found, finding.Finding{
			Rule: "tpm-unavailable", Severity: finding.Warning, What: err.Error(), Fix: keyservice.HintOf(err),
		})
	}
	if look.Changed != 0 && open {
		found = append(found, finding.Finding{
			Rule: "tpm-pcrs-changed", Severity: finding.Error,
			What: fmt.Sprintf("PCR %s changed since the key was sealed: a daemon that starts now does not open the keystore",
				look.Changed),
			Fix: "see what changed; if it was on purpose, seal the key anew: `trousseau tpm request`, `grant` and `accept` with another " +
				"node, or `trousseau tpm restore`",
		})
	}
	if look.Failed != 0 && sealed.NeedsAuth() {
		found = append(found, finding.Finding{
			Rule: "tpm-lockout", Severity: finding.Warning,
			What: fmt.Sprintf("the TPM has counted %d wrong authorization(s); from %d on it refuses right ones, too",
				look.Failed, look.MaxFails),
			Fix: "find out who made them; `tpm2_dictionarylockout --clear-lockout` makes the TPM forget them",
		})
	}
	return found
}

func (k *Key) lookAtDevice() (finding.Finding, bool) {
	switch {
	case k.config.Device.Simulated():
		return finding.Finding{
			Rule: "tpm-simulated", Severity: finding.Warning,
			What: fmt.Sprintf("%s is a socket: a program plays the TPM, and who has its state has what it sealed", k.config.Device),
			Fix:  "use the TPM of the node: device: /dev/tpmrm0",
		}, true
	case k.config.Device == "/dev/tpm0":
		return finding.Finding{
			Rule: "tpm-not-shared", Severity: finding.Warning,
			What: "/dev/tpm0 lets one process in at a time: who else uses the TPM keeps the daemon out",
			Fix:  "use the kernel's resource manager: device: /dev/tpmrm0",
		}, true
	}
	return finding.Finding{}, false
}

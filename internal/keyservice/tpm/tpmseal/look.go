package tpmseal

import (
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Look is what a TPM tells about itself, without being asked for a secret.
type Look struct {
	Changed  PCRs   // that have another value than the one to which a key is sealed
	Failed   uint32 // wrong authorizations that the TPM has counted and not forgotten yet
	MaxFails uint32 // it refuses all authorizations when it has counted so many
}

// Look compares the present state with that of a sealed key.
func (d Device) Look(ctx context.Context, sealed *SealedKey) (Look, error) {
	look, err := use(ctx, d, func(t tpm) (Look, error) {
		now, err := t.read(sealed.state.pcrs)
		if err != nil {
			return Look{}, err
		}
		look := Look{Changed: sealed.state.changed(now)}
		if look.Failed, err = t.property(tpm2.TPMPTLockoutCounter); err != nil {
			return Look{}, err
		}
		look.MaxFails, err = t.property(tpm2.TPMPTMaxAuthFail)
		return look, err
	})
	return look, fail("looking at the TPM", err)
}

func (t tpm) property(property tpm2.TPMPT) (uint32, error) {
	answer, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(property), PropertyCount: 1,
	}.Execute(t)
	if err != nil {
		return 0, err
	}
	properties, err := answer.CapabilityData.Data.TPMProperties()
	if err != nil || len(properties.TPMProperty) != 1 || properties.TPMProperty[0].Property != property {
		return 0, fmt.Errorf("%w: it is not the property that it was asked for", errAnswer)
	}
	return properties.TPMProperty[0].Value, nil
}

package tpmseal

import (
	"github.com/google/go-tpm/tpm2"
)

// The policy of a sealed object, in this order: it is for TPM2_Unseal alone, so that nobody duplicates or changes the
// object; the PCRs, if any, have their values; and, where one was given, the caller knows the authorization value.

// policy returns the digest of the policy. It needs no TPM: who grants computes it for another node.
func (o *object) policy() (tpm2.TPM2BDigest, error) {
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return tpm2.TPM2BDigest{}, err
	}
	err = tpm2.PolicyCommandCode{Code: tpm2.TPMCCUnseal}.Update(calculator)
	if err == nil && o.state.pcrs != 0 {
		err = tpm2.PolicyPCR{PcrDigest: o.state.digest(), Pcrs: o.state.pcrs.selection()}.Update(calculator)
	}
	if err == nil && o.auth {
		err = tpm2.PolicyAuthValue{}.Update(calculator)
	}
	return tpm2.TPM2BDigest{Buffer: calculator.Hash().Digest}, err
}

// satisfy has the TPM compare each part of the policy for a session.
func (t tpm) satisfy(session tpm2.TPMHandle, o *object) error {
	_, err := tpm2.PolicyCommandCode{PolicySession: session, Code: tpm2.TPMCCUnseal}.Execute(t)
	if err == nil && o.state.pcrs != 0 {
		_, err = tpm2.PolicyPCR{PolicySession: session, Pcrs: o.state.pcrs.selection()}.Execute(t)
	}
	if err == nil && o.auth {
		_, err = tpm2.PolicyAuthValue{PolicySession: session}.Execute(t)
	}
	return err
}

package tpmseal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-tpm/tpm2"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// ErrAuth means that the TPM refused the authorization, and counted that.
var ErrAuth error = tpm2.TPMRCAuthFail

var (
	errDamaged     = errors.New("the file is damaged")
	errInvalid     = errors.New("not a file that this version reads")
	errSize        = errors.New("the secret is empty, or longer than a TPM seals")
	errReach       = errors.New("the TPM does not answer")
	errNoDevice    = errors.New("there is no TPM")
	errAnswer      = errors.New("the TPM's answer cannot be right")
	errBank        = errors.New("the TPM has no SHA-256 bank of PCRs")
	errOtherTPM    = errors.New("another TPM sealed it, or this one was cleared since")
	errAuthMissing = errors.New("it is sealed with an auth file as well, and none was given")
	errAuthExtra   = errors.New("an auth file was given, and it is sealed without one")
	errFingerprint = errors.New("this is not the request with that fingerprint")
)

// changedError says that PCRs do not have the values any more to which a secret is sealed.
type changedError struct{ PCRs PCRs }

func (e *changedError) Error() string {
	return fmt.Sprintf("the node is not in the state that the key is sealed to: PCR %s changed", e.PCRs)
}

const (
	hintPCRs = "if firmware, its settings or the boot loader were changed on purpose, seal the key anew: `trousseau tpm request`, " +
		"`grant` and `accept` with another node, or `trousseau tpm restore`. If nobody changed them, find out who did first"
	hintAnew = "seal the key anew: `trousseau tpm request`, `grant` and `accept` with another node, or `trousseau tpm restore`"
	hintAuth = "put the right secret into the auth file; after some wrong ones the TPM locks itself for a while"
	hintBusy = "see who else uses the TPM, and use it through its resource manager: /dev/tpmrm0"
	hintDown = "restart the node; if it stays so, the TPM is broken: see the kernel's log"
	hintLess = "the TPM cannot do what this needs: TPM 2.0 with ECC P-256, AES-128 in CFB mode and SHA-256 (PC Client profile)"
	hintBits = "something between this process and the TPM changes what they say: see the kernel's log, and who has the device"
)

// kinds assigns every cause its kind, the first match counts. The codes are all that part 2 of the TPM 2.0 Library lists.
var kinds = []struct {
	kind   keyservice.Kind
	hint   string
	causes []error
}{
	{keyservice.Unavailable, "the TPM took too long: see who else uses it", []error{context.Canceled, context.DeadlineExceeded}},

	// What is in files, and what they name.
	{keyservice.Corrupt, hintAnew, []error{errDamaged}},
	{keyservice.Invalid, "seal 1 to 128 bytes", []error{errSize}},
	{keyservice.Invalid, "name a file that `trousseau tpm` made, or use a newer version of Trousseau", []error{errInvalid}},
	{keyservice.NotFound, hintAnew, []error{errOtherTPM}},
	{keyservice.Invalid, "name the auth file, with authFile or --auth-file", []error{errAuthMissing}},
	{keyservice.Invalid, "leave authFile or --auth-file out, or seal the key with it: `trousseau tpm reseal` cannot add one, " +
		"`trousseau tpm restore` can", []error{errAuthExtra}},
	{keyservice.Denied, "compare it with what `trousseau tpm request` printed on the other node; if the request came over a " +
		"network, somebody may have changed it on the way", []error{errFingerprint}},

	// What the TPM refuses.
	{keyservice.Denied, hintAuth, []error{ErrAuth}},
	{keyservice.Throttled, "too many wrong authorizations: wait until the TPM forgets them, or `tpm2_dictionarylockout " +
		"--clear-lockout`; find out who made them", []error{tpm2.TPMRCLockout}},
	{keyservice.Denied, "the TPM's owner has a password, and the storage root key cannot be made with it: clear it with " +
		"`tpm2_changeauth -c owner -p PASSWORD`", []error{tpm2.TPMRCBadAuth}},
	{keyservice.Denied, hintPCRs, []error{
		tpm2.TPMRCPolicyFail, tpm2.TPMRCPCRChanged, tpm2.TPMRCPCR, tpm2.TPMRCPolicy,
	}},
	{keyservice.Disabled, "switch the TPM's storage hierarchy on in the firmware's settings",
		[]error{tpm2.TPMRCHierarchy, tpm2.TPMRCDisabled}},
	{keyservice.Denied, "use the TPM at locality 0, as /dev/tpmrm0 does", []error{tpm2.TPMRCLocality, tpm2.TPMRCPP}},
	{keyservice.Corrupt, hintAnew, []error{
		tpm2.TPMRCIntegrity, tpm2.TPMRCSensitive, tpm2.TPMRCBinding, tpm2.TPMRCSize, tpm2.TPMRCInsufficient, tpm2.TPMRCECCPoint,
	}},

	// What passes.
	{keyservice.Throttled, hintBusy, []error{
		tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate, tpm2.TPMRCContextGap, tpm2.TPMRCObjectMemory,
		tpm2.TPMRCSessionMemory, tpm2.TPMRCMemory, tpm2.TPMRCSessionHandles, tpm2.TPMRCObjectHandles, tpm2.TPMRCTooManyContexts,
	}},
	{keyservice.Unavailable, hintBusy, []error{
		tpm2.TPMRCCanceled, tpm2.TPMRCHandle, tpm2.TPMRCExclusive,
		tpm2.TPMRCReferenceH0, tpm2.TPMRCReferenceH1, tpm2.TPMRCReferenceH2, tpm2.TPMRCReferenceH3, tpm2.TPMRCReferenceH4,
		tpm2.TPMRCReferenceH5, tpm2.TPMRCReferenceH6, tpm2.TPMRCReferenceS0, tpm2.TPMRCReferenceS1, tpm2.TPMRCReferenceS2,
		tpm2.TPMRCReferenceS3, tpm2.TPMRCReferenceS4, tpm2.TPMRCReferenceS5, tpm2.TPMRCReferenceS6,
	}},
	{keyservice.Unavailable, hintDown, []error{
		tpm2.TPMRCInitialize, tpm2.TPMRCFailure, tpm2.TPMRCUpgrade, tpm2.TPMRCReboot, tpm2.TPMRCNeedsTest,
		tpm2.TPMRCNVUnavailable, tpm2.TPMRCNVUninitialized, tpm2.TPMRCNVSpace, tpm2.TPMRCNoResult,
	}},

	// What never works.
	{keyservice.Invalid, "switch the TPM's SHA-256 bank of PCRs on in the firmware's settings", []error{errBank}},
	{keyservice.Invalid, hintLess, []error{
		tpm2.TPMRCCommandCode, tpm2.TPMRCAsymmetric, tpm2.TPMRCAttributes, tpm2.TPMRCHash, tpm2.TPMRCKeySize, tpm2.TPMRCMGF,
		tpm2.TPMRCMode, tpm2.TPMRCType, tpm2.TPMRCKDF, tpm2.TPMRCRange, tpm2.TPMRCValue, tpm2.TPMRCScheme, tpm2.TPMRCSymmetric,
		tpm2.TPMRCSelector, tpm2.TPMRCKey, tpm2.TPMRCReservedBits, tpm2.TPMRCCurve, tpm2.TPMRCUnbalanced, tpm2.TPMRCParent,
		tpm2.TPMRCPolicyCC, tpm2.TPMRCAuthType, tpm2.TPMRCAuthMissing, tpm2.TPMRCAuthUnavailable, tpm2.TPMRCCPHash,
		tpm2.TPMRCExpired, tpm2.TPMRCTicket, tpm2.TPMRCSignature, tpm2.TPMRCSequence, tpm2.TPMRCPrivate, tpm2.TPMRCHMAC,
		tpm2.TPMRCNVRange, tpm2.TPMRCNVSize, tpm2.TPMRCNVLocked, tpm2.TPMRCNVAuthorization, tpm2.TPMRCNVDefined,
	}},
	{keyservice.Corrupt, hintBits, []error{
		errAnswer, tpm2.TPMRCTag, tpm2.TPMRCCommandSize, tpm2.TPMRCAuthSize, tpm2.TPMRCAuthContext, tpm2.TPMRCBadContext,
		tpm2.TPMRCNonce,
	}},

	// What the operating system says of the device.
	{keyservice.Denied, "let the user of this process use the TPM: on most systems by membership of the group tss",
		[]error{fs.ErrPermission}},
	{keyservice.Unavailable, "see that the node has a TPM 2.0, switched on in the firmware's settings, and that `device` names it",
		[]error{fs.ErrNotExist, errNoDevice}},
	{keyservice.Unavailable, hintBusy, []error{errReach}},
}

// fail returns the error of an operation, or nil if err is nil. What go-tpm cannot make sense of, or finds wrongly
// authenticated, has no cause of its own: such an answer cannot be right.
func fail(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*changedError](err); ok {
		return &keyservice.Error{Kind: keyservice.Denied, Op: op, Hint: hintPCRs, Err: err}
	}
	for _, k := range kinds {
		for _, cause := range k.causes {
			if errors.Is(err, cause) {
				return &keyservice.Error{Kind: k.kind, Op: op, Hint: k.hint, Err: err}
			}
		}
	}
	return &keyservice.Error{Kind: keyservice.Corrupt, Op: op, Hint: hintBits, Err: err}
}

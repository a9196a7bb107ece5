package awskms

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	hintCorrupt = "the stored bytes were changed, or another key or cluster wrapped them: restore the object from a backup. If " +
		"keyARN is an alias, see that it was not pointed to another key"
	hintDenied = "compare the identity's policy, the key's policy and any service control policy with `trousseau check --print-policy`"
	hintLogin  = "replace the credentials, or see that the role exists and trusts them: `aws sts get-caller-identity` tells " +
		"who they are"
	hintKey      = "see that keyARN is right (`aws kms describe-key --key-id ARN`) and that the key was not deleted"
	hintState    = "enable the key: aws kms enable-key --key-id ARN"
	hintDeletion = "stop the deletion at once, the key is needed: aws kms cancel-key-deletion and aws kms enable-key"
	hintImport   = "import the key material again: aws kms import-key-material"
	hintAgain    = "AWS says that this passes; if it does not, look at the AWS Health Dashboard for the Region"
	hintAway     = "see that this host reaches the endpoint of KMS (DNS, routes, VPC endpoint, proxy)"
	hintNoLogin  = "see that a source of credentials is there: name credentialsFile, or give the instance a role and see that its " +
		"metadata is reached (hop limit 2 for containers)"
	hintFiles    = "put credentials that work into the file, with mode 0600, for the daemon's user"
	hintProcess  = "run the credential_process of the profile by hand, as the daemon's user"
	hintSlow     = "AWS did not answer in time: look at the network between"
	hintClock    = "synchronise this host's clock with NTP"
	hintThrottle = "ask for a higher quota of cryptographic operations in this Region, or see who else uses it up"
	hintInvalid  = "use a symmetric encryption key (SYMMETRIC_DEFAULT), and look at its settings with `trousseau check`"
	hintNotKMS   = "see that endpoint is that of KMS, and not of a proxy or another service"
)

// rule gives an error of AWS its kind. The first rule that fits counts.
type rule struct {
	code string
	text string // in the message, in lower case; empty fits every message
	kind keyservice.Kind
	hint string
}

// rules are the errors that the API references of KMS (Encrypt, Decrypt, DescribeKey, ListKeyRotations,
// GetKeyRotationStatus) and STS (AssumeRole, AssumeRoleWithWebIdentity) list, and those that all services have in common.
var rules = []rule{
	{"DisabledException", "", keyservice.Disabled, hintState},
	{invalidState, "", keyservice.Disabled, hintState}, // see explain
	{"NotFoundException", "", keyservice.NotFound, hintKey},
	{"KeyUnavailableException", "", keyservice.Unavailable, hintAgain},
	{"DependencyTimeoutException", "", keyservice.Unavailable, hintAgain},
	{"KMSInternalException", "", keyservice.Unavailable, hintAgain},
	{"InvalidCiphertextException", "", keyservice.Corrupt, hintCorrupt},
	{"IncorrectKeyException", "", keyservice.Corrupt, hintCorrupt},
	{"InvalidKeyUsageException", "", keyservice.Invalid, hintInvalid},
	{"InvalidArnException", "", keyservice.Invalid, hintKey},
	{"InvalidMarkerException", "", keyservice.Invalid, hintInvalid},
	{"UnsupportedOperationException", "", keyservice.Invalid, hintInvalid},
	{"DryRunOperationException", "", keyservice.Invalid, hintNotKMS},
	{"InvalidGrantTokenException", "", keyservice.Denied, hintDenied},

	{"ThrottlingException", "", keyservice.Throttled, hintThrottle},
	{"Throttling", "", keyservice.Throttled, hintThrottle},
	{"ThrottledException", "", keyservice.Throttled, hintThrottle},
	{"RequestThrottled", "", keyservice.Throttled, hintThrottle},
	{"RequestLimitExceeded", "", keyservice.Throttled, hintThrottle},
	{"TooManyRequestsException", "", keyservice.Throttled, hintThrottle},
	{"LimitExceededException", "", keyservice.Throttled, hintThrottle},

	{"AccessDeniedException", "", keyservice.Denied, hintDenied},
	{"AccessDenied", "", keyservice.Denied, hintLogin},
	{"NotAuthorized", "", keyservice.Denied, hintDenied},
	{"OptInRequired", "", keyservice.Denied, "subscribe the account to the service, and enable the Region for it"},
	{"ExpiredTokenException", "", keyservice.Denied, hintLogin},
	{"ExpiredToken", "", keyservice.Denied, hintLogin},
	{"InvalidClientTokenId", "", keyservice.Denied, hintLogin},
	{"UnrecognizedClientException", "", keyservice.Denied, hintLogin},
	{"InvalidSignatureException", "signature expired", keyservice.Unavailable, hintClock},
	{"InvalidSignatureException", "signature not yet current", keyservice.Unavailable, hintClock},
	{"InvalidSignatureException", "", keyservice.Denied, hintLogin},
	{"SignatureDoesNotMatch", "signature expired", keyservice.Unavailable, hintClock},
	{"SignatureDoesNotMatch", "signature not yet current", keyservice.Unavailable, hintClock},
	{"SignatureDoesNotMatch", "", keyservice.Denied, hintLogin},
	{"IncompleteSignature", "", keyservice.Denied, hintLogin},
	{"IncompleteSignatureException", "", keyservice.Denied, hintLogin},
	{"MissingAuthenticationToken", "", keyservice.Denied, hintLogin},
	{"MissingAuthenticationTokenException", "", keyservice.Denied, hintLogin},
	{"RequestExpired", "", keyservice.Unavailable, hintClock},

	{"InvalidIdentityToken", "", keyservice.Denied, hintLogin},
	{"IDPRejectedClaim", "", keyservice.Denied, hintLogin},
	{"AssumeRoleUnauthorizedAccess", "", keyservice.Denied, hintLogin}, // instance metadata
	{"IDPCommunicationError", "", keyservice.Unavailable, hintAgain},
	{"RegionDisabledException", "", keyservice.Denied, "activate STS in this Region, in the account settings of IAM"},
	{"PackedPolicyTooLarge", "", keyservice.Invalid, hintLogin},
	{"MalformedPolicyDocument", "", keyservice.Invalid, hintLogin},

	{"InternalFailure", "", keyservice.Unavailable, hintAgain},
	{"InternalError", "", keyservice.Unavailable, hintAgain},
	{"InternalServerError", "", keyservice.Unavailable, hintAgain},
	{"ServiceUnavailable", "", keyservice.Unavailable, hintAgain},
	{"ServiceUnavailableException", "", keyservice.Unavailable, hintAgain},

	{"ValidationException", "", keyservice.Invalid, hintInvalid},
	{"ValidationError", "", keyservice.Invalid, hintLogin},
	{"SerializationException", "", keyservice.Invalid, hintNotKMS},
	{"MalformedHttpRequestException", "", keyservice.Invalid, hintNotKMS},
	{"UnknownOperationException", "", keyservice.Invalid, hintNotKMS},
	{"InvalidAction", "", keyservice.Invalid, hintNotKMS},
}

// invalidState is one code for several states of a key, which its settings tell apart.
const invalidState = "KMSInvalidStateException"

// states are those in which a key cannot be used. In state Updating it can.
var states = map[types.KeyState]struct {
	kind keyservice.Kind
	hint string
}{
	types.KeyStateDisabled:               {keyservice.Disabled, hintState},
	types.KeyStatePendingDeletion:        {keyservice.Disabled, hintDeletion},
	types.KeyStatePendingReplicaDeletion: {keyservice.Disabled, hintDeletion},
	types.KeyStatePendingImport:          {keyservice.Disabled, hintImport},
	types.KeyStateCreating:               {keyservice.Unavailable, hintAgain},
	types.KeyStateUnavailable:            {keyservice.Unavailable, hintAgain},
}

// unusable returns the error for a key in a state in which it cannot be used, or nil.
func unusable(op string, about *types.KeyMetadata) *keyservice.Error {
	s, found := states[about.KeyState]
	if !found {
		return nil
	}
	return &keyservice.Error{
		Kind: s.kind, Op: op, Err: fmt.Errorf("the key is in state %s", about.KeyState), Hint: s.hint,
	}
}

// explain asks for the key's state where KMS only says that it is the wrong one.
func (k *Key) explain(ctx context.Context, op string, err error) error {
	if a, ok := errors.AsType[*answer](err); !ok || a.code != invalidState {
		return err
	}
	about, readErr := k.describe(ctx, op, k.followed())
	if readErr != nil {
		return err
	}
	if failure := unusable(op, about); failure != nil {
		return failure
	}
	return err
}

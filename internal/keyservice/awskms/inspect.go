package awskms

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	// maxSkew is how far the clocks may be apart. AWS refuses requests from 5 minutes on.
	maxSkew = time.Minute
	// expirySoon is how long before the end of imported material it is time to act.
	expirySoon = 30 * 24 * time.Hour
)

// Inspect implements keyservice.Inspector. It reads the settings of the key and wraps and unwraps a few bytes.
func (k *Key) Inspect(ctx context.Context) ([]finding.Finding, error) {
	op := "inspecting " + k.config.ID()
	arn, err := k.key(ctx, op)
	if err != nil {
		return nil, err
	}
	about, err := k.describe(ctx, op, arn)
	if err != nil {
		return nil, err
	}
	found := k.inspectMaterial(about)
	if failure := unusable(op, about); failure != nil {
		what := failure.Err.Error()
		if about.DeletionDate != nil {
			what += ", and is deleted for good on " + about.DeletionDate.Format(time.DateOnly)
		}
		found = append(found, k.finding("awskms-key-state", finding.Error, what, failure.Hint))
	} else {
		found = append(found, k.inspectBinding(ctx)...)
		found = append(found, k.inspectRotation(ctx, op, arn, about)...)
	}
	if k.config.alias() {
		found = append(found, k.inspectAlias(ctx, op, arn)...)
	}
	credentials, err := k.credentials.Retrieve(ctx)
	if err != nil {
		return nil, classify(ctx, op, err)
	}
	found = append(found, k.inspectCredentials(credentials)...)
	if len(found) == 0 {
		found = append(found, k.finding("awskms-ok", finding.OK, "nothing dangerous was found", ""))
	}
	return found, nil
}

func (k *Key) finding(rule string, severity finding.Severity, what, fix string) finding.Finding {
	return finding.Finding{Rule: rule, Severity: severity, Where: k.config.ID(), What: what, Fix: fix}
}

// inspectMaterial looks at material that KMS did not make.
func (k *Key) inspectMaterial(about *types.KeyMetadata) []finding.Finding {
	if about.Origin != types.OriginTypeExternal {
		return nil
	}
	found := []finding.Finding{k.finding("awskms-key-imported", finding.Info,
		"the key material was imported: copies of it may exist elsewhere, and AWS keeps none that survives its deletion", "")}
	if end := about.ValidTo; end != nil {
		severity := finding.Info
		if time.Until(*end) < expirySoon {
			severity = finding.Error
		}
		found = append(found, k.finding("awskms-material-expires", severity, "the key material expires on "+
			end.Format(time.DateOnly)+", and the key is unusable then", "import it again before: aws kms import-key-material"))
	}
	return found
}

// inspectBinding sees whether KMS authenticates the encryption context: what only imitates KMS may not.
func (k *Key) inspectBinding(ctx context.Context) []finding.Finding {
	secret, aad := []byte("trousseau inspection"), []byte("associated data")
	wrapped, err := k.Wrap(ctx, "", secret, aad)
	if err != nil {
		return []finding.Finding{k.finding("awskms-wrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	if _, err := k.Unwrap(ctx, wrapped, []byte("other data")); err == nil {
		return []finding.Finding{k.finding("awskms-aad-ignored", finding.Error,
			"the encryption context is ignored, so that an envelope of one cluster opens in another",
			"use AWS KMS: what answers at endpoint only imitates it")}
	}
	return nil
}

// inspectRotation sees whether the key is rotated, and by the same answer how far the clocks are apart. Imported material is
// rotated by hand only.
func (k *Key) inspectRotation(ctx context.Context, op, arn string, about *types.KeyMetadata) []finding.Finding {
	var found []finding.Finding
	if _, err := k.materials(ctx, op, arn, about); err != nil {
		found = append(found, k.finding("awskms-rotations-unknown", finding.Info, "when the key was rotated is not known, because "+
			"the credentials may not list its rotations (nobody may from another account)", ""))
	}
	status, err := call(ctx, k, op, func(ctx context.Context) (*kms.GetKeyRotationStatusOutput, error) {
		return k.kms.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &arn})
	})
	switch {
	case err != nil:
		return append(found, k.finding("awskms-rotation-unknown", finding.Info,
			"whether the key is rotated is not known: "+err.Error(), ""))
	case !status.KeyRotationEnabled && about.Origin == types.OriginTypeAwsKms:
		found = append(found, k.finding("awskms-rotation-off", finding.Warning, "the key is not rotated automatically",
			"aws kms enable-key-rotation --key-id "+arn+" (the primary, for a multi-Region key)"))
	}
	if skew, known := awsmiddleware.GetAttemptSkew(status.ResultMetadata); known && skew.Abs() > maxSkew {
		found = append(found, k.finding("awskms-clock-skew", finding.Warning, fmt.Sprintf(
			"the clocks of this host and AWS are %s apart, and requests are refused from 5 minutes on", skew.Abs().Round(time.Second)),
			hintClock))
	}
	return found
}

// inspectAlias follows the alias again.
func (k *Key) inspectAlias(ctx context.Context, op, arn string) []finding.Finding {
	now, err := k.describe(ctx, op, k.config.KeyARN)
	switch {
	case err != nil:
		return []finding.Finding{k.finding("awskms-alias-gone", finding.Error,
			"the alias cannot be followed any more, and the daemon will not find the key after a restart: "+err.Error(),
			"write the key's own ARN into keyARN: "+arn)}
	case aws.ToString(now.Arn) != arn:
		return []finding.Finding{k.finding("awskms-alias-moved", finding.Error, "the alias points to "+aws.ToString(now.Arn)+
			" now; the daemon uses the key that it pointed to before, until it restarts, and opens nothing old after that",
			"point the alias back (aws kms update-alias), or write the key's own ARN into keyARN: "+arn)}
	}
	return []finding.Finding{k.finding("awskms-alias", finding.Warning,
		"the key is named by an alias: whoever may change that decides which key the next start uses",
		"write the key's own ARN into keyARN, and the id that is used now into id: "+arn+", "+k.config.ID())}
}

// inspectCredentials looks at what requests are signed with.
func (k *Key) inspectCredentials(got aws.Credentials) []finding.Finding {
	switch {
	case got.CanExpire:
		return nil
	case got.SessionToken != "":
		return []finding.Finding{k.finding("awskms-session-ends", finding.Warning,
			"the credentials are those of a session, which ends within hours, and nothing here renews it",
			"use a source that renews them: a role of the instance, a web identity, or credential_process")}
	}
	return []finding.Finding{k.finding("awskms-long-lived-key", finding.Warning,
		"the access key never ends: who copies it keeps it",
		"use a role (instance, web identity, IAM Roles Anywhere through credential_process), or replace the key regularly")}
}

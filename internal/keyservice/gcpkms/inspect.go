package gcpkms

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// leastDelay is the shortest time between the order to destroy a version and its end that is not reported. Google's default
// is 30 days.
const leastDelay = 7 * 24 * time.Hour

// Inspect implements keyservice.Inspector. It wraps and unwraps a few bytes, reads the key, its versions and what the account
// may do.
func (k *Key) Inspect(ctx context.Context) ([]finding.Finding, error) {
	op := "inspecting " + k.config.ID()
	key, err := k.read(ctx, op)
	if err != nil && (keyservice.KindOf(err).Outage() || keyservice.KindOf(err) == keyservice.Denied) {
		return nil, err
	}
	if err != nil {
		return []finding.Finding{k.finding("gcpkms-key-unusable", finding.Error, err.Error(), keyservice.HintOf(err))}, nil
	}
	found := slices.Concat(k.inspectKey(key), k.inspectVersions(ctx, op, key), k.inspectUse(ctx), k.inspectAccount(ctx, op))
	if len(found) == 0 {
		found = append(found, k.finding("gcpkms-ok", finding.OK, "nothing dangerous was found", ""))
	}
	return found, nil
}

func (k *Key) finding(rule string, severity finding.Severity, what, fix string) finding.Finding {
	return finding.Finding{Rule: rule, Severity: severity, Where: k.config.ID(), What: what, Fix: fix}
}

// inspectKey looks at the settings of the key.
func (k *Key) inspectKey(key *kmspb.CryptoKey) (found []finding.Finding) {
	primary := key.GetPrimary()
	if state := primary.GetState(); state != kmspb.CryptoKeyVersion_ENABLED {
		found = append(found, k.finding("gcpkms-primary-unusable", finding.Error,
			fmt.Sprintf("the primary version is %s", state), "enable it, or make another one primary: "+
				"gcloud kms keys versions create --primary"))
	}
	if key.GetRotationPeriod() == nil && !key.GetImportOnly() {
		found = append(found, k.finding("gcpkms-rotation-off", finding.Warning, "the key is never rotated by itself",
			"gcloud kms keys update KEY --rotation-period=90d --next-rotation-time=..."))
	}
	if delay := key.GetDestroyScheduledDuration(); delay != nil && delay.AsDuration() < leastDelay {
		found = append(found, k.finding("gcpkms-destroyed-soon", finding.Warning, fmt.Sprintf(
			"a version that somebody orders to be destroyed can be restored for %s only", delay.AsDuration()),
			"this cannot be changed: make a key with --destroy-scheduled-duration=30d, and move to it"))
	}
	if primary.GetImportJob() != "" {
		found = append(found, k.finding("gcpkms-imported", finding.Info,
			"the key material was imported: a copy of it may exist elsewhere", ""))
	}
	switch primary.GetProtectionLevel() {
	case kmspb.ProtectionLevel_EXTERNAL, kmspb.ProtectionLevel_EXTERNAL_VPC:
		found = append(found, k.finding("gcpkms-external", finding.Info,
			"the key material is in an external key manager: without that nothing wraps or unwraps", ""))
	}
	return found
}

// inspectVersions looks for versions that open nothing, or soon will not, and for a primary version that is not the newest.
func (k *Key) inspectVersions(ctx context.Context, op string, key *kmspb.CryptoKey) (found []finding.Finding) {
	versions, err := call(ctx, k, op, allVersions, &kmspb.ListCryptoKeyVersionsRequest{Parent: k.config.Key})
	if err != nil {
		return []finding.Finding{k.finding("gcpkms-versions-unknown", finding.Info, err.Error(), "")}
	}
	primary, _ := k.config.versionNumber(key.GetPrimary().GetName())
	var ending, disabled, newer []string
	for _, v := range versions {
		number, err := k.config.versionNumber(v.GetName())
		if err != nil {
			continue
		}
		name := fmt.Sprint(number)
		switch v.GetState() {
		case kmspb.CryptoKeyVersion_DESTROY_SCHEDULED:
			ending = append(ending, name+" on "+v.GetDestroyTime().AsTime().Format(time.DateOnly))
		case kmspb.CryptoKeyVersion_DISABLED:
			disabled = append(disabled, name)
		case kmspb.CryptoKeyVersion_ENABLED:
			if number > primary {
				newer = append(newer, name)
			}
		}
	}
	if ending != nil {
		found = append(found, k.finding("gcpkms-destruction-scheduled", finding.Error,
			"versions will be destroyed, and with them all that they wrapped: "+strings.Join(ending, ", "),
			"unless a census shows that nothing needs them: "+hintRestore))
	}
	if disabled != nil {
		found = append(found, k.finding("gcpkms-version-disabled", finding.Warning,
			"versions are disabled and open nothing that they wrapped: "+strings.Join(disabled, ", "),
			"unless a census shows that nothing needs them: "+hintEnable))
	}
	if newer != nil {
		found = append(found, k.finding("gcpkms-primary-not-newest", finding.Warning, fmt.Sprintf(
			"version %d is primary and newer ones are enabled: %s. A daemon that announced a newer one keeps it; one that starts now does not",
			primary, strings.Join(newer, ", ")),
			"make the newest version primary again, or pin the one to use in keys[].version on every node"))
	}
	return found
}

// allVersions is a method as call takes it, and reads all pages.
var allVersions = func(
	client *kms.KeyManagementClient, ctx context.Context, request *kmspb.ListCryptoKeyVersionsRequest, options ...gax.CallOption,
) (versions []*kmspb.CryptoKeyVersion, err error) {
	for v, err := range client.ListCryptoKeyVersions(ctx, request, options...).All() {
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, nil
}

// inspectUse wraps and unwraps.
func (k *Key) inspectUse(ctx context.Context) []finding.Finding {
	secret, aad := []byte("trousseau inspection"), []byte("associated data")
	wrapped, err := k.Wrap(ctx, "", secret, aad)
	if err != nil {
		return []finding.Finding{k.finding("gcpkms-wrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	if _, err := k.Unwrap(ctx, wrapped, aad); err != nil {
		return []finding.Finding{k.finding("gcpkms-unwrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	return nil
}

// harmful are permissions that who wraps and unwraps should not have.
var harmful = [...]string{
	"cloudkms.cryptoKeys.setIamPolicy", "cloudkms.cryptoKeys.update",
	"cloudkms.cryptoKeyVersions.create", "cloudkms.cryptoKeyVersions.update", "cloudkms.cryptoKeyVersions.destroy",
}

// inspectAccount looks at the credential and at what its account may do.
func (k *Key) inspectAccount(ctx context.Context, op string) (found []finding.Finding) {
	switch k.session.credential() {
	case "service_account":
		found = append(found, k.finding("gcpkms-credential-endless", finding.Warning,
			"the credential is a service account's key, which never ends: who copies it keeps it",
			"use workload identity federation, or the service account of the machine"))
	case "authorized_user":
		found = append(found, k.finding("gcpkms-credential-personal", finding.Warning,
			"the credential is a person's: it ends when the person leaves or changes the password",
			"use workload identity federation, or a service account"))
	}
	got, err := call(ctx, k, op, (*kms.KeyManagementClient).TestIamPermissions, &iampb.TestIamPermissionsRequest{
		Resource: k.config.Key, Permissions: slices.Concat(needed[:], harmful[:]),
	})
	if err != nil {
		return append(found, k.finding("gcpkms-policy-unknown", finding.Info, err.Error(), ""))
	}
	var missing, beyond []string
	for _, permission := range needed {
		if !slices.Contains(got.GetPermissions(), permission) {
			missing = append(missing, permission)
		}
	}
	for _, permission := range harmful {
		if slices.Contains(got.GetPermissions(), permission) {
			beyond = append(beyond, permission)
		}
	}
	if missing != nil {
		found = append(found, k.finding("gcpkms-policy-narrow", finding.Error,
			"the account lacks "+strings.Join(missing, ", "), "give it the role of `trousseau check --print-policy`"))
	}
	if beyond != nil {
		found = append(found, k.finding("gcpkms-policy-wide", finding.Warning,
			"the account may do more than it needs: "+strings.Join(beyond, ", "),
			"give it the role of `trousseau check --print-policy` and no other"))
	}
	return found
}

package azurekv

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

const (
	soon    = 30 * 24 * time.Hour // what ends within it is worth a warning
	maxSkew = time.Minute         // nbf and exp are judged by this host's clock as well
)

// Inspect implements keyservice.Inspector. It reads the versions and the settings of the key, wraps and unwraps a few bytes
// and looks at the files that it logs in with.
func (k *Key) Inspect(ctx context.Context) ([]finding.Finding, error) {
	op := "inspecting " + k.config.ID()
	versions, err := k.list(ctx, op)
	if err != nil && keyservice.KindOf(err) == keyservice.NotFound {
		if deleted := k.inspectDeleted(ctx, op); deleted != nil {
			return deleted, nil
		}
	}
	if err != nil {
		return nil, err
	}
	v := versions[newest(versions)]
	var answer *http.Response
	bundle, err := call(ctx, k, request{op: op}, func(ctx context.Context) (azkeys.GetKeyResponse, error) {
		return k.client.GetKey(policy.WithCaptureResponse(ctx, &answer), k.config.Key, string(v.id), nil)
	})
	if err != nil {
		return nil, err
	}
	found := slices.Concat(
		k.inspectVersion(v), k.inspectKey(bundle.KeyBundle), k.inspectUse(ctx), k.inspectRotation(ctx, op),
		k.inspectClock(answer), k.inspectCredential(),
	)
	if k.config.Algorithm == rsaOAEP {
		found = append(found, keyservice.Unauthenticated(k.config.ID()))
	}
	if len(found) == 0 {
		found = append(found, k.finding("azurekv-ok", finding.OK, "nothing dangerous was found", ""))
	}
	return found, nil
}

func (k *Key) finding(rule string, severity finding.Severity, what, fix string) finding.Finding {
	return finding.Finding{Rule: rule, Severity: severity, Where: k.config.ID(), What: what, Fix: fix}
}

// inspectDeleted returns nil unless the key is deleted and can be recovered.
func (k *Key) inspectDeleted(ctx context.Context, op string) []finding.Finding {
	deleted, err := call(ctx, k, request{op: op}, func(ctx context.Context) (azkeys.GetDeletedKeyResponse, error) {
		return k.client.GetDeletedKey(ctx, k.config.Key, nil)
	})
	if err != nil {
		return nil // the role need not allow the question
	}
	return []finding.Finding{k.finding("azurekv-key-deleted", finding.Error, fmt.Sprintf(
		"the key is deleted, and will be destroyed at %s with everything that it wrapped",
		valueOf(deleted.ScheduledPurgeDate).UTC().Format(time.RFC3339)),
		"az keyvault key recover "+k.flag()+" --name "+k.config.Key)}
}

// flag returns how the service's command line is told the vault.
func (k *Key) flag() string {
	if k.config.ManagedHSM != "" {
		return "--hsm-name " + k.config.ManagedHSM
	}
	return "--vault-name " + k.config.Vault
}

// update returns the command that changes the vault itself.
func (k *Key) update() string {
	if k.config.ManagedHSM != "" {
		return "az keyvault update-hsm --hsm-name " + k.config.ManagedHSM
	}
	return "az keyvault update --name " + k.config.Vault
}

// inspectVersion looks at the version that wraps, or the newest if none does.
func (k *Key) inspectVersion(v version) []finding.Finding {
	switch {
	case v.state() != keyservice.StateEnabled:
		return []finding.Finding{k.finding("azurekv-key-disabled", finding.Error, fmt.Sprintf(
			"no version of the key wraps: the newest, %s, is %s", v.id, v.state()), hintDisabled)}
	case !v.expires.IsZero() && time.Until(v.expires) < soon:
		return []finding.Finding{k.finding("azurekv-key-expires", finding.Warning, fmt.Sprintf(
			"version %s expires at %s: it will open what it wrapped, and wrap nothing", v.id, v.expires.UTC().Format(time.RFC3339)),
			"az keyvault key rotate "+k.flag()+" --name "+k.config.Key)}
	}
	return nil
}

// inspectKey looks at the settings of the key.
func (k *Key) inspectKey(bundle azkeys.KeyBundle) []finding.Finding {
	kind, may := azkeys.KeyType(""), []string{}
	if bundle.Key != nil {
		kind = valueOf(bundle.Key.Kty)
		for _, operation := range bundle.Key.KeyOps {
			may = append(may, string(valueOf(operation)))
		}
	}
	var attributes azkeys.KeyAttributes
	if bundle.Attributes != nil {
		attributes = *bundle.Attributes
	}
	level := valueOf(attributes.RecoveryLevel)
	fits := kind == azkeys.KeyTypeRSA || kind == azkeys.KeyTypeRSAHSM
	if k.config.Algorithm == aesKW {
		fits = kind == azkeys.KeyTypeOctHSM
	}
	rules := []struct {
		holds     bool
		rule      string
		severity  finding.Severity
		what, fix string
	}{
		{!fits, "azurekv-key-type", finding.Error, fmt.Sprintf("a key of type %.20s does not wrap with %s", kind, k.config.Algorithm), hintKeyType},
		{!slices.Contains(may, "wrapKey") || !slices.Contains(may, "unwrapKey"), "azurekv-key-operations", finding.Error,
			fmt.Sprintf("the key is allowed %s only", strings.Join(may, ", ")), hintOps},
		{!strings.Contains(level, "Recoverable"), "azurekv-no-soft-delete", finding.Error,
			"a key that is deleted is gone at once, and everything that it wrapped", k.update() + " --enable-soft-delete true"},
		{strings.Contains(level, "Purgeable"), "azurekv-no-purge-protection", finding.Warning,
			"whoever may purge can destroy the key at once, and everything that it wrapped",
			k.update() + " --enable-purge-protection true (it cannot be undone)"},
		{valueOf(attributes.Exportable), "azurekv-key-exportable", finding.Warning, "the key may leave the service under its release policy",
			"this cannot be undone: make another key that is not exportable"},
		{valueOf(bundle.Managed), "azurekv-key-managed", finding.Warning,
			"the key belongs to a certificate, and goes with it", "make a key of its own"},
		{kind == azkeys.KeyTypeRSA, "azurekv-key-software", finding.Info, "the key is protected by software, not by an HSM",
			"in a vault of the premium tier, make a key with --protection hsm"},
	}
	var found []finding.Finding
	for _, r := range rules {
		if r.holds {
			found = append(found, k.finding(r.rule, r.severity, r.what, r.fix))
		}
	}
	return found
}

// inspectUse wraps and unwraps.
func (k *Key) inspectUse(ctx context.Context) []finding.Finding {
	wrapped, err := k.Wrap(ctx, "", []byte("trousseau inspection"), nil)
	if err != nil {
		return []finding.Finding{k.finding("azurekv-wrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	if _, err := k.Unwrap(ctx, wrapped, nil); err != nil {
		return []finding.Finding{k.finding("azurekv-unwrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	return nil
}

// inspectRotation looks whether the service makes new versions. The least role does not allow the question.
func (k *Key) inspectRotation(ctx context.Context, op string) []finding.Finding {
	set, err := call(ctx, k, request{op: op}, func(ctx context.Context) (azkeys.GetKeyRotationPolicyResponse, error) {
		return k.client.GetKeyRotationPolicy(ctx, k.config.Key, nil)
	})
	if err != nil {
		return []finding.Finding{k.finding("azurekv-rotation-unknown", finding.Info,
			"whether the service rotates the key is not known: the role does not allow to look, or the look failed",
			"as somebody who may: az keyvault key rotation-policy show "+k.flag()+" --name "+k.config.Key)}
	}
	for _, action := range set.LifetimeActions {
		if action != nil && action.Action != nil &&
			strings.EqualFold(string(valueOf(action.Action.Type)), string(azkeys.KeyRotationPolicyActionRotate)) {
			return nil
		}
	}
	return []finding.Finding{k.finding("azurekv-rotation-off", finding.Info, "the service makes no new versions by itself",
		"az keyvault key rotation-policy update "+k.flag()+" --name "+k.config.Key+" --value POLICY.json")}
}

func (k *Key) inspectClock(answer *http.Response) []finding.Finding {
	date, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil || time.Since(date).Abs() < maxSkew {
		return nil
	}
	return []finding.Finding{k.finding("azurekv-clock-skew", finding.Warning, fmt.Sprintf(
		"the clocks of this host and the service are %s apart", time.Since(date).Abs().Round(time.Second)),
		"synchronise this host's with NTP: log ins and the times of versions depend on it")}
}

// inspectCredential looks at what the files tell of their end.
func (k *Key) inspectCredential() []finding.Finding {
	auth := k.config.Auth
	switch {
	case auth.ClientSecret != nil:
		return []finding.Finding{k.finding("azurekv-client-secret", finding.Info,
			"the client secret ends at a time that only Entra ID knows",
			"watch it there, or log in with a managed identity")}
	case auth.ClientCertificate != nil:
		pair, err := auth.ClientCertificate.read() // an error has been the log in's
		if err == nil && time.Until(pair.Leaf.NotAfter) < soon {
			return []finding.Finding{k.finding("azurekv-certificate-expires", finding.Warning, fmt.Sprintf(
				"the client certificate ends at %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339)), hintExpired)}
		}
	}
	return nil
}

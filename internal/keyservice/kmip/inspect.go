package kmip

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ovh/kmip-go"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// notice is how long before the end of a key or certificate it is a warning.
const notice = 30 * 24 * time.Hour

// Inspect implements keyservice.Inspector. It reads the attributes of every object of the key, wraps and unwraps a few
// bytes, looks at the client certificate and connects to each address.
func (k *Key) Inspect(ctx context.Context) ([]finding.Finding, error) {
	all, err := k.read(ctx, "inspecting "+k.config.ID())
	if err != nil && keyservice.KindOf(err) != keyservice.Invalid {
		return nil, err
	}
	var found []finding.Finding
	if err != nil {
		found = append(found, k.finding("kmip-key-unusable", finding.Error, err.Error(), keyservice.HintOf(err)))
	} else {
		found = append(found, k.inspectBinding(ctx)...)
	}
	for _, part := range []struct {
		objects chain
		usage   kmip.CryptographicUsageMask
	}{
		{all.keys, usageBoth}, {all.macs, kmip.CryptographicUsageMACGenerate | kmip.CryptographicUsageMACVerify},
	} {
		for n, o := range part.objects {
			found = append(found, k.inspectObject(o, part.usage, n == part.objects.newest())...)
		}
	}
	if k.config.MAC != nil {
		found = append(found, k.finding("kmip-mode-cbc", finding.Info,
			"AES-CBC with HMAC-SHA256 wraps, which takes two requests and 36 bytes more than AES-GCM",
			"leave mac out, under another id, once the server has KMIP 1.4 and AES-GCM"))
	}
	found = append(found, k.inspectCertificate()...)
	for _, node := range k.servers.nodes {
		found = append(found, k.inspectNode(ctx, node)...)
	}
	if !slices.ContainsFunc(found, func(f finding.Finding) bool { return f.Severity >= finding.Warning }) {
		found = append(found, k.finding("kmip-ok", finding.OK, "nothing dangerous was found", ""))
	}
	return found, nil
}

func (k *Key) finding(rule string, severity finding.Severity, what, fix string) finding.Finding {
	return finding.Finding{Rule: rule, Severity: severity, Where: k.config.ID(), What: what, Fix: fix}
}

// inspectBinding sees whether the server really authenticates: a server that ignores a field it does not know would wrap
// without a word.
func (k *Key) inspectBinding(ctx context.Context) []finding.Finding {
	wrapped, err := k.Wrap(ctx, "", []byte("trousseau inspection"), []byte("associated data"))
	if err != nil {
		return []finding.Finding{k.finding("kmip-wrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	if _, err := k.Unwrap(ctx, wrapped, []byte("associated data")); err != nil {
		return []finding.Finding{k.finding("kmip-unwrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	var found []finding.Finding
	if _, err := k.Unwrap(ctx, wrapped, []byte("other data")); err == nil {
		found = append(found, k.finding("kmip-aad-ignored", finding.Error,
			"the server ignores associated data, so that an envelope of one cluster opens in another",
			"upgrade the server, or set mac: AES-CBC with HMAC-SHA256 does not depend on this"))
	}
	wrapped.Bytes[len(wrapped.Bytes)-1] ^= 1
	if _, err := k.Unwrap(ctx, wrapped, []byte("associated data")); err == nil {
		found = append(found, k.finding("kmip-tag-ignored", finding.Error,
			"the server decrypts what was changed: who writes etcd can change what is wrapped",
			"upgrade the server, or set mac: AES-CBC with HMAC-SHA256 does not depend on this"))
	}
	return found
}

// inspectObject looks at one version. What can be done about a key that wraps no more is little, so most is said of the
// newest alone.
func (k *Key) inspectObject(o object, usage kmip.CryptographicUsageMask, newest bool) []finding.Finding {
	ends := o.protectStop
	if ends.IsZero() || (!o.deactivation.IsZero() && o.deactivation.Before(ends)) {
		ends = o.deactivation
	}
	readable := (o.sensitive == nil || !*o.sensitive) && (o.extractable == nil || *o.extractable)
	unknown := o.sensitive == nil && o.extractable == nil
	uid := fmt.Sprintf("object %q, version %s,", o.uid, o.id())
	state := fmt.Sprintf("%s is %s since %s", uid, enum(o.state), o.created().UTC().Format(time.DateOnly))
	stops := fmt.Sprintf("%s stops wrapping at %s", uid, ends.UTC().Format(time.RFC3339))
	rules := []struct {
		holds     bool
		rule      string
		severity  finding.Severity
		what, fix string
	}{
		{true, "kmip-version", finding.Info, state, ""},
		{o.state == kmip.StateCompromised, "kmip-key-compromised", finding.Error, uid + " is marked as compromised",
			"rotate the key, rewrite everything in etcd, and change the Secrets themselves"},
		{newest && o.state != kmip.StateActive, "kmip-key-not-active", finding.Error, state + ", and no version is active: " +
			"nothing can be wrapped", "activate it, or make another version"},
		{newest && !ends.IsZero() && time.Until(ends) < notice, "kmip-key-ends", finding.Warning, stops,
			"rotate the key before, or move the date"},
		{newest && !ends.IsZero() && time.Until(ends) >= notice, "kmip-key-ends-later", finding.Info, stops, ""},
		{newest && o.usage&^usage != 0, "kmip-key-usage-wide", finding.Warning, uid + " may also be used for " +
			masks(o.usage&^usage), "make a version with a usage mask of " + masks(usage) + " alone"},
		{newest && readable && !unknown, "kmip-key-extractable", finding.Warning,
			uid + " is not sensitive and is extractable: whoever may Get it has the key itself",
			"make a version with Sensitive true and Extractable false, and let nobody Get the old one"},
		{newest && unknown, "kmip-key-extractable-unknown", finding.Info, uid + " has no attributes Sensitive and " +
			"Extractable, which are of KMIP 1.4: whoever may Get it may have the key itself", ""},
	}
	var found []finding.Finding
	for _, r := range rules {
		if r.holds {
			found = append(found, k.finding(r.rule, r.severity, r.what, r.fix))
		}
	}
	return found
}

func (k *Key) inspectCertificate() []finding.Finding {
	made, err := k.servers.trust.current()
	if err != nil {
		return []finding.Finding{k.finding("kmip-certificate-unusable", finding.Error, err.Error(), hintLogin)}
	}
	left := time.Until(made.client.NotAfter).Round(time.Minute)
	if left > notice {
		return nil
	}
	severity := finding.Warning
	if left <= 0 {
		severity = finding.Error
	}
	return []finding.Finding{k.finding("kmip-certificate-ends", severity,
		fmt.Sprintf("the client certificate ends at %s", made.client.NotAfter.UTC().Format(time.RFC3339)),
		"put a new certificate and its key into clientCertFile and clientKeyFile; nothing needs a restart")}
}

// inspectNode connects to one address.
func (k *Key) inspectNode(ctx context.Context, node *server) []finding.Finding {
	made, err := k.servers.trust.current()
	if err != nil {
		return nil // inspectCertificate said so
	}
	c, err := dial(ctx, node.address, made, k.servers.versions)
	if err != nil {
		problem := classify(ctx, "connecting", err)
		return []finding.Finding{{
			Rule: "kmip-address-away", Severity: finding.Warning, Where: node.address, What: problem.Error(), Fix: problem.Hint,
		}}
	}
	defer c.raw.Close()
	if c.version == kmip.V1_4 {
		return nil
	}
	return []finding.Finding{{
		Rule: "kmip-protocol-old", Severity: finding.Info, Where: node.address,
		What: fmt.Sprintf("the server speaks KMIP %v, which has no AES-GCM with associated data", c.version),
		Fix:  "upgrade the server to one with KMIP 1.4",
	}}
}

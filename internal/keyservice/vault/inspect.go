package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// maxSkew is how far the clocks may be apart: new versions are adopted at a time that the server's clock set.
const maxSkew = time.Minute

// Inspect implements keyservice.Inspector. It wraps and unwraps a few bytes, reads the settings of key and token, and
// asks each address for its health.
func (k *Key) Inspect(ctx context.Context) ([]finding.Finding, error) {
	op := "inspecting " + k.config.ID()
	s, err := k.read(ctx, op)
	if err != nil && keyservice.KindOf(err) != keyservice.Invalid {
		return nil, err
	}
	found := k.inspectKey(s)
	if err == nil {
		found = append(found, k.inspectBinding(ctx)...)
	}
	found = append(found, k.inspectToken(ctx, op)...)
	found = append(found, k.inspectPolicy(ctx, op)...)
	for i := range k.servers.nodes {
		found = append(found, k.inspectNode(ctx, i)...)
	}
	if len(found) == 0 {
		found = append(found, k.finding("vault-ok", finding.OK, "nothing dangerous was found", ""))
	}
	return found, nil
}

func (k *Key) finding(rule string, severity finding.Severity, what, fix string) finding.Finding {
	return finding.Finding{Rule: rule, Severity: severity, Where: k.config.ID(), What: what, Fix: fix}
}

// inspectKey looks at the settings of the key.
func (k *Key) inspectKey(s settings) []finding.Finding {
	keys := k.config.path("keys")
	rules := []struct {
		holds     bool
		rule      string
		severity  finding.Severity
		what, fix string
	}{
		{s.problem() != nil, "vault-key-unusable", finding.Error, fmt.Sprintf("the key cannot be used: %v", s.problem()),
			"make another key of type aes256-gcm96 without derivation, and configure its name"},
		{s.Convergent, "vault-key-convergent", finding.Error, "equal secrets have equal ciphertexts",
			"make another key without convergent_encryption"},
		{s.SoftDeleted, "vault-key-soft-deleted", finding.Error, "the key is soft-deleted and does nothing",
			"restore it: bao write -f " + keys + "/soft-delete-restore"},
		{s.Exportable, "vault-key-exportable", finding.Warning, "whoever may read export/ gets the key itself",
			"this cannot be undone: make another key without exportable, and rotate to it"},
		{s.AllowPlaintextBackup, "vault-key-plaintext-backup", finding.Warning, "whoever may read backup/ gets the key itself",
			"this cannot be undone: make another key without allow_plaintext_backup, and rotate to it"},
		{s.DeletionAllowed, "vault-key-deletable", finding.Warning, "the key may be deleted, and everything it wrapped with it",
			"vault write " + keys + "/config deletion_allowed=false"},
		{s.Imported, "vault-key-imported", finding.Info, "the key was imported: a copy of it may exist elsewhere", ""},
		{s.MinDecryptionVersion > 1, "vault-key-min-decryption", finding.Info, fmt.Sprintf(
			"versions below %d do not open any more (min_decryption_version)", s.MinDecryptionVersion), ""},
		{s.AutoRotatePeriod > 0, "vault-key-auto-rotate", finding.Info, fmt.Sprintf(
			"the server makes a new version every %s", time.Duration(s.AutoRotatePeriod)*time.Second), ""},
	}
	var found []finding.Finding
	for _, r := range rules {
		if r.holds {
			found = append(found, k.finding(r.rule, r.severity, r.what, r.fix))
		}
	}
	return found
}

// inspectBinding sees whether the server authenticates associated data: servers from before it was supported ignore the
// field without a word.
func (k *Key) inspectBinding(ctx context.Context) []finding.Finding {
	secret, aad := []byte("trousseau inspection"), []byte("associated data")
	wrapped, err := k.Wrap(ctx, "", secret, aad)
	if err != nil {
		return []finding.Finding{k.finding("vault-wrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	if _, err := k.Unwrap(ctx, wrapped, aad); err != nil {
		return []finding.Finding{k.finding("vault-unwrap-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	if _, err := k.Unwrap(ctx, wrapped, []byte("other data")); err == nil {
		return []finding.Finding{k.finding("vault-aad-ignored", finding.Error,
			"the server ignores associated_data, so that an envelope of one cluster opens in another",
			"upgrade the server: Vault since 1.12 and every OpenBao authenticate it")}
	}
	return nil
}

// inspectToken looks at the token that is in use.
func (k *Key) inspectToken(ctx context.Context, op string) []finding.Finding {
	t, err := k.session.token(ctx, nil)
	if err != nil {
		return []finding.Finding{k.finding("vault-login-fails", finding.Error, err.Error(), keyservice.HintOf(err))}
	}
	facts, err := lookUp(ctx, op, k.servers, t)
	if err != nil {
		return []finding.Finding{k.finding("vault-token-unknown", finding.Info,
			"the token's settings are not known, because its policy does not allow lookup-self", "")}
	}
	ttl := time.Duration(facts.TTL) * time.Second
	var found []finding.Finding
	add := func(rule string, severity finding.Severity, what, fix string) {
		found = append(found, k.finding(rule, severity, what, fix))
	}
	switch {
	case slices.Contains(facts.Policies, "root"):
		add("vault-token-root", finding.Warning, "the token is a root token, which may do everything",
			"use a token with the policy of `trousseau check --print-policy`")
	case ttl == 0:
		add("vault-token-endless", finding.Warning, "the token never ends: who copies it keeps it",
			"use a periodic token, or another authentication method")
	case !t.own && (!facts.Renewable || (facts.Period == 0 && facts.ExplicitMaxTTL > 0)):
		add("vault-token-ends", finding.Warning, fmt.Sprintf("the token cannot be renewed for ever; it has %s left", ttl),
			"replace it by a periodic token (vault token create -period=24h -orphan), or use another authentication method")
	}
	if facts.NumUses > 0 {
		add("vault-token-uses", finding.Error, fmt.Sprintf("the token ends after %d more uses", facts.NumUses),
			"use a role with token_num_uses=0")
	}
	if t.own && ttl > 0 && t.granted < 5*time.Minute {
		add("vault-token-short", finding.Warning, fmt.Sprintf("tokens live for %s only: each outage of that length needs a "+
			"new log in", t.granted), "set token_ttl of the role to an hour or more")
	}
	return found
}

// needed is what LeastPolicy allows on the paths of the engine; forbidden paths are looked at for rights beyond it.
func (k *Key) needed() map[string][]string {
	return map[string][]string{
		k.config.path("encrypt"):                                {"update"},
		k.config.path("decrypt"):                                {"update"},
		k.config.path("keys"):                                   {"read"},
		k.config.path("keys") + "/config":                       nil,
		k.config.path("keys") + "/rotate":                       nil,
		k.config.path("keys") + "/trim":                         nil,
		k.config.path("export/encryption-key"):                  nil,
		k.config.path("backup"):                                 nil,
		"sys/policies/acl/trousseau-inspection":                 nil,
		"sys/mounts/" + k.config.Mount:                          nil,
		"auth/token/create":                                     nil,
		k.config.Mount + "/keys/trousseau-inspection-other-key": nil,
	}
}

// inspectPolicy compares what the token may do with what it needs.
func (k *Key) inspectPolicy(ctx context.Context, op string) []finding.Finding {
	needed := k.needed()
	paths := make([]string, 0, len(needed))
	for path := range needed {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	var raw map[string]json.RawMessage
	r := request{method: "POST", path: "sys/capabilities-self", body: map[string][]string{"paths": paths}}
	if err := k.call(ctx, op, r, &raw); err != nil {
		return []finding.Finding{k.finding("vault-policy-unknown", finding.Info,
			"what the token may do is not known, because its policy does not allow sys/capabilities-self", "")}
	}
	var beyond []string
	for _, path := range paths {
		var may []string
		if json.Unmarshal(raw[path], &may) != nil {
			continue
		}
		for _, capability := range may {
			if capability != "deny" && !slices.Contains(needed[path], capability) {
				beyond = append(beyond, capability+" "+path)
			}
		}
	}
	if len(beyond) == 0 {
		return nil
	}
	return []finding.Finding{k.finding("vault-policy-wide", finding.Warning,
		"the token may do more than it needs: "+strings.Join(beyond, ", "),
		"give its role the policy of `trousseau check --print-policy` and no other")}
}

// inspectNode asks one server for its health, which needs no token. Standbys and sealed servers answer with other codes
// than 200 by default, so the codes are asked to be 200.
func (k *Key) inspectNode(ctx context.Context, i int) []finding.Finding {
	node := k.servers.nodes[i]
	where := func(rule string, severity finding.Severity, what, fix string) []finding.Finding {
		return []finding.Finding{{Rule: rule, Severity: severity, Where: node.Address(), What: what, Fix: fix}}
	}
	r := request{method: "GET", path: "sys/health", params: url.Values{
		"standbyok": {"true"}, "perfstandbyok": {"true"}, "sealedcode": {"200"}, "uninitcode": {"200"},
		"drsecondarycode": {"200"},
	}}
	got, problem := k.servers.ask(ctx, "asking for health", node.WithNamespace(""), r, 1) // namespaces have no health
	if problem != nil {
		return where("vault-address-away", finding.Warning, problem.Error(), problem.Hint)
	}
	var found []finding.Finding
	var health struct {
		Sealed      bool `json:"sealed"`
		Initialized bool `json:"initialized"`
	}
	switch err := json.Unmarshal(got.body, &health); {
	case err != nil:
		found = where("vault-address-other", finding.Warning, "what answers here is no Vault or OpenBao", hintNotVault)
	case health.Sealed || !health.Initialized:
		found = where("vault-address-sealed", finding.Warning, "this server is sealed or not initialised", hintSealed)
	}
	if date, err := http.ParseTime(got.date); err == nil && time.Since(date).Abs() > maxSkew {
		found = append(found, where("vault-clock-skew", finding.Warning, fmt.Sprintf(
			"the clocks of this host and the server are %s apart", time.Since(date).Abs().Round(time.Second)),
			"synchronise both with NTP: key versions are adopted by their creation time")...)
	}
	if u, err := url.Parse(node.Address()); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		found = append(found, where("vault-plain-http", finding.Warning,
			"tokens and what is wrapped pass the network in clear", "serve TLS and write https:// in addresses")...)
	}
	return found
}

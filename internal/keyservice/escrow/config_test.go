package escrow_test

import (
	"crypto/rsa"
	"math/big"
	"slices"
	"strings"
	"testing"

	"filippo.io/age/plugin"
	"golang.org/x/crypto/ssh"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/escrow"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

func TestValidate(t *testing.T) {
	one, other, post, ed := x25519(t), x25519(t), hybrid(t), sshEd25519(t)
	small, err := ssh.NewPublicKey(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	of := plugin.EncodeRecipient("test", []byte("data"))
	for name, c := range map[string]struct {
		recipients []string
		want       string // the start of the one problem, or ""
	}{
		"X25519":                {[]string{one.recipient}, ""},
		"post-quantum":          {[]string{post.recipient, hybrid(t).recipient}, ""},
		"all classic":           {[]string{one.recipient, ed.recipient, sshRSA(t, 2048).recipient}, ""},
		"plugin":                {[]string{of}, ""},
		"none":                  {nil, "recipients is empty"},
		"twice":                 {[]string{one.recipient, other.recipient, one.recipient}, "recipients[2] is recipients[0] again"},
		"twice but for comment": {[]string{ed.recipient + " a", ed.recipient + " b"}, "recipients[1] is recipients[0] again"},
		"mixed":                 {[]string{one.recipient, post.recipient}, "recipients do not go together"},
		"an identity":           {[]string{one.identity}, "recipients[0] is an identity, which is secret"},
		"a small identity":      {[]string{strings.ToLower(one.identity)}, "recipients[0] is an identity, which is secret"},
		"a passphrase":          {[]string{"correct horse battery staple"}, "recipients[0] is no recipient"},
		"empty text":            {[]string{""}, "recipients[0] is no recipient"},
		"GitHub":                {[]string{"github:operator"}, "recipients[0] is no recipient"},
		"X25519 cut":            {[]string{one.recipient[:50]}, "recipients[0] is no whole recipient"},
		"post-quantum cut":      {[]string{post.recipient[:50]}, "recipients[0] is no whole recipient"},
		"plugin cut":            {[]string{of[:len(of)-1]}, "recipients[0] is no whole recipient"},
		"SSH cut":               {[]string{ed.recipient[:40]}, "recipients[0] is no SSH public key"},
		"two SSH keys":          {[]string{ed.recipient + "\n" + ed.recipient}, "recipients[0] is no SSH public key"},
		"RSA with 1,024 bits":   {[]string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(small)))}, "recipients[0] is an SSH key that age cannot use"},
	} {
		t.Run(name, func(t *testing.T) {
			config := escrow.Config{Recipients: c.recipients}
			var problems []string
			config.Validate(func(field, problem string) { problems = append(problems, field+" "+problem) })
			if len(c.recipients) > 0 { // "required" is a tag
				if c.want == "" && problems != nil || c.want != "" && (len(problems) != 1 || !strings.HasPrefix(problems[0], c.want)) {
					t.Errorf("problems %q, want one that begins with %q", problems, c.want)
				}
			}
			_, err := escrow.Open(t.Context(), config, quiet)
			if c.want == "" && err != nil {
				t.Error(err)
			}
			if c.want != "" {
				keyservicetest.CheckKind(t, "opening", err, keyservice.Invalid, c.want)
				if strings.Contains(strings.ToUpper(err.Error()), one.identity) {
					t.Error("the error holds an identity")
				}
			}
		})
	}
}

func inspect(t *testing.T, recipients ...string) []finding.Finding {
	t.Helper()
	found := keyservicetest.Inspect(t, open(t, recipients...))
	for _, f := range found {
		if f.Where != "escrow" || f.Fix == "" {
			t.Errorf("incomplete: %+v", f)
		}
	}
	return found
}

func rules(found []finding.Finding) (rules []string) {
	for _, f := range found {
		rules = append(rules, f.Rule+" "+f.Severity.String())
	}
	return rules
}

func TestInspect(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	always := "key-unauthenticated info"
	for name, c := range map[string]struct {
		recipients []string
		want       []string
	}{
		"two good ones": {[]string{x25519(t).recipient, x25519(t).recipient}, []string{always}},
		"single":        {[]string{x25519(t).recipient}, []string{always, "escrow-single-recipient info"}},
		"large":         {[]string{x25519(t).recipient, sshRSA(t, 3072).recipient}, []string{always, "escrow-large info"}},
		"small RSA":     {[]string{sshEd25519(t).recipient, sshRSA(t, 2048).recipient}, []string{always, "escrow-rsa-small warning", "escrow-large info"}},
		"no plugin":     {[]string{x25519(t).recipient, pluginRecipient("works", "")}, []string{always, "escrow-wrap-fails error"}},
	} {
		if got := rules(inspect(t, c.recipients...)); !slices.Equal(got, c.want) {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
	key := open(t, x25519(t).recipient)
	key.Close()
	if _, err := key.Inspect(t.Context()); keyservice.KindOf(err) != keyservice.Unavailable {
		t.Errorf("closed: %v", err)
	}
}

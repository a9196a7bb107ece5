package vault_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

const minimal = `
addresses: [https://vault.example.com:8200]
key: k8s
auth: {tokenFile: /etc/trousseau/token}
`

func TestConfigDecodes(t *testing.T) {
	t.Parallel()
	var c vault.Config
	if err := strictyaml.Decode("test.yaml", []byte(minimal), &c); err != nil {
		t.Fatal(err)
	}
	if c.Mount != "transit" || c.ID() != "vault:transit/k8s" {
		t.Errorf("decoded %+v", c)
	}
	full := `
addresses: [https://a:8200, https://b:8200, "http://127.0.0.1:8200", "http://[::1]:8200"]
mount: team-1/Transit_2
key: K8s.prod-1
namespace: admin/team
caFile: /etc/ca.pem
tlsServerName: vault
auth: {approle: {roleID: r, secretIDFile: "systemd:secret-id", secretIDWrapped: true}}
`
	if err := strictyaml.Decode("test.yaml", []byte(full), &c); err != nil {
		t.Fatal(err)
	}
	if c.Auth.AppRole.Mount != "approle" {
		t.Errorf("decoded %+v", c.Auth.AppRole)
	}
}

// TestConfigRefuses changes one line of a good document. The error names the field.
func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ replace, by, field string }{
		{"key: k8s", "key: ../sys/x", "key"},
		{"key: k8s", "key: a/b", "key"},
		{"key: k8s", "key: 'a%2fb'", "key"},
		{"key: k8s", "key: 'a?b'", "key"},
		{"key: k8s", "key: 'a#b'", "key"},
		{"key: k8s", `key: "a\tb"`, "key"},
		{"key: k8s", `key: "a\u0000b"`, "key"},
		{"key: k8s", "key: a..b", "key"},
		{"key: k8s", "key: '.'", "key"},
		{"key: k8s", "key: kß", "key"},
		{"key: k8s", "key: k8s/config", "key"},
		{"key: k8s", "", "key"},
		{"key: k8s", "key: k8s\nmount: ../sys", "mount"},
		{"key: k8s", "key: k8s\nmount: /transit", "mount"},
		{"key: k8s", "key: k8s\nmount: transit/", "mount"},
		{"key: k8s", "key: k8s\nmount: a//b", "mount"},
		{"key: k8s", "key: k8s\nmount: a/./b", "mount"},
		{"key: k8s", "key: k8s\nmount: 'a%2e'", "mount"},
		{"key: k8s", "key: k8s\nmount: 'a?x=y'", "mount"},
		{"key: k8s", `key: k8s` + "\n" + `mount: "a\nb"`, "mount"},
		{"key: k8s", "key: k8s\nnamespace: a/../b", "namespace"},
		{"key: k8s", "key: k8s\ncaFile: ca.pem", "caFile"},
		{"key: k8s", "key: k8s\nclientCertFile: /c.pem", "clientKeyFile"},
		{"https://vault.example.com:8200", "http://vault.example.com:8200", "addresses[0]"},
		{"https://vault.example.com:8200", "https://user:pass@vault:8200", "addresses[0]"},
		{"https://vault.example.com:8200", "'https://vault:8200/?x=y'", "addresses[0]"},
		{"https://vault.example.com:8200", "https://vault:8200/../x", "addresses[0]"},
		{"https://vault.example.com:8200", "unix:///run/vault.sock", "addresses[0]"},
		{"https://vault.example.com:8200", "vault:8200", "addresses[0]"},
		{"[https://vault.example.com:8200]", "[]", "addresses"},
		{"{tokenFile: /etc/trousseau/token}", "{}", "auth"},
		{"{tokenFile: /etc/trousseau/token}", "{tokenFile: token}", "tokenFile"},
		{"{tokenFile: /etc/trousseau/token}", "{tokenFile: /t, jwt: {jwtFile: /j}}", "auth"},
		{"{tokenFile: /etc/trousseau/token}", "{jwt: {mount: ../x, jwtFile: /j}}", "auth.jwt.mount"},
		{"{tokenFile: /etc/trousseau/token}", "{userpass: {username: a/../b, passwordFile: /p}}", "auth.userpass.username"},
		{"{tokenFile: /etc/trousseau/token}", "{kubernetes: {tokenFile: /t}}", "auth.kubernetes.role"},
		{"{tokenFile: /etc/trousseau/token}", "{token: hvs.secret}", "token"},
	} {
		var config vault.Config
		err := strictyaml.Decode("test.yaml", []byte(strings.Replace(minimal, c.replace, c.by, 1)), &config)
		keyservicetest.CheckProblem(t, c.by, err, c.field, "", "hvs.secret")
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := vault.Config{
		Addresses: []string{"https://vault:8200"}, Mount: "transit", Key: "k8s", Auth: vault.Auth{TokenFile: "/t"},
	}
	for name, change := range map[string]func(*vault.Config){
		"no address":       func(c *vault.Config) { c.Addresses = nil },
		"mount elsewhere":  func(c *vault.Config) { c.Mount = "../sys" },
		"no auth":          func(c *vault.Config) { c.Auth = vault.Auth{} },
		"two methods":      func(c *vault.Config) { c.Auth.JWT = &vault.JWT{Mount: "jwt", JWTFile: "/j"} },
		"role mount wrong": func(c *vault.Config) { c.Auth = vault.Auth{Cert: &vault.Cert{Mount: "a/../b"}} },
	} {
		c := good
		change(&c)
		_, err := vault.Open(t.Context(), c, slog.New(slog.DiscardHandler))
		keyservicetest.CheckKind(t, name, err, keyservice.Invalid, "")
	}
}

package azurekv_test

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

const minimal = `vault: myvault
key: k8s
auth: {clientSecret: {tenantID: 72f988bf-86f1-41af-91ab-2d7cd011db47, clientID: fad7d5b3-69d6-4b48-9259-8d12124e1cf1, secretFile: /etc/trousseau/secret}}
`

func TestDefaults(t *testing.T) {
	t.Parallel()
	var c azurekv.Config
	if err := strictyaml.Decode("test.yaml", []byte(minimal), &c); err != nil {
		t.Fatal(err)
	}
	if c.Algorithm != "RSA-OAEP-256" || c.Cloud != "public" || c.ID() != "azurekv:myvault/k8s" {
		t.Errorf("%+v, id %q", c, c.ID())
	}
	open(t, c)
}

func TestConfigurations(t *testing.T) {
	t.Parallel()
	const custom = "key: k8s\ncloud: custom\nvaultURL: https://127.0.0.1:8443\nauthorityHost: https://login.example.com"
	for _, c := range []struct{ replace, by, problem string }{
		{"vault: myvault", "managedHSM: myhsm\nalgorithm: A256KW", ""},
		{"key: k8s", custom, ""},
		{"auth: {clientSecret: {", "auth: {managedIdentity: {}} # ", ""},
		{"auth: {clientSecret: {", "auth: {managedIdentity: {clientID: fad7d5b3-69d6-4b48-9259-8d12124e1cf1}} # ", ""},
		{"vault: myvault", "", "vault"},
		{"vault: myvault", "vault: myvault\nmanagedHSM: myhsm", "vault"},
		{"vault: myvault", "vault: MyVault", "3 to 24 small letters"},
		{"vault: myvault", "vault: myvault.vault.azure.net", "3 to 24 small letters"},
		{"key: k8s", "", "key: "},
		{"key: k8s", "key: k8s/0123", "1 to 127 letters"},
		{"key: k8s", "key: k8s\nalgorithm: RSA1_5", "algorithm"},
		{"key: k8s", "key: k8s\ncloud: germany", "cloud"},
		{"key: k8s", "key: k8s\nvaultURL: https://vault.example.com", "is only for the cloud custom"},
		{"key: k8s", "key: k8s\nauthorityHost: https://login.example.com", "is only for the cloud custom"},
		{"key: k8s", "key: k8s\ncloud: custom\nauthorityHost: https://login.example.com", "vaultURL: is missing"},
		{"key: k8s", "key: k8s\ncloud: custom\nvaultURL: https://vault.example.com", "authorityHost: is missing"},
		{"key: k8s", strings.Replace(custom, "https://127", "http://127", 1), "vaultURL: is no plain https URL"},
		{"key: k8s", strings.Replace(custom, ":8443", ":8443/keys", 1), "vaultURL: is no plain https URL"},
		{"key: k8s", strings.Replace(custom, "https://login", "https://user:x@login", 1), "authorityHost: is no plain https URL"},
		{"key: k8s", "key: k8s\ncaFile: ca.pem", "caFile: is not absolute"},
		{"clientID: fad7d5b3-69d6-4b48-9259-8d12124e1cf1, ", "", "clientID"},
		{"72f988bf-86f1-41af-91ab-2d7cd011db47", "contoso.onmicrosoft.com", "a GUID"},
		{"/etc/trousseau/secret", "secret", "is not absolute"},
		{"secretFile: /etc", "secret: /etc", "secretFile"},
		{"auth: {clientSecret", "auth: {managedIdentity: {}, clientSecret", "authentication method"},
		{"auth: {clientSecret: {", "auth: {clientCertificate: {certFile: c.pem, keyFile: /k.pem, ", "certFile"},
	} {
		var config azurekv.Config
		err := strictyaml.Decode("test.yaml", []byte(strings.Replace(minimal, c.replace, c.by, 1)), &config)
		if (err == nil) != (c.problem == "") || (err != nil && !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%q: %v, want a problem with %q", c.by, err, c.problem)
		}
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := azurekv.Config{
		Vault: "myvault", Key: "k8s", Algorithm: "RSA-OAEP-256", Cloud: "public",
		Auth: azurekv.Auth{ManagedIdentity: &azurekv.ManagedIdentity{}},
	}
	open(t, good)
	noPEM := string(file(t, "no certificate"))
	for name, change := range map[string]func(*azurekv.Config){
		"nothing":      func(c *azurekv.Config) { *c = azurekv.Config{} },
		"no vault":     func(c *azurekv.Config) { c.Vault = "" },
		"two vaults":   func(c *azurekv.Config) { c.ManagedHSM = "b" },
		"other host":   func(c *azurekv.Config) { c.Vault = "evil.example.com/" },
		"no key":       func(c *azurekv.Config) { c.Key = "../x" },
		"algorithm":    func(c *azurekv.Config) { c.Algorithm = "RSA1_5" },
		"cloud":        func(c *azurekv.Config) { c.Cloud = "" },
		"no auth":      func(c *azurekv.Config) { c.Auth = azurekv.Auth{} },
		"two methods":  func(c *azurekv.Config) { c.Auth.ClientSecret = &azurekv.ClientSecret{} },
		"empty method": func(c *azurekv.Config) { c.Auth = azurekv.Auth{ClientCertificate: &azurekv.ClientCertificate{}} },
		"no PEM":       func(c *azurekv.Config) { c.CAFile = noPEM },
		"no CA":        func(c *azurekv.Config) { c.CAFile = "/does/not/exist" },
	} {
		c := good
		change(&c)
		_, err := azurekv.Open(t.Context(), c, slog.New(slog.DiscardHandler))
		keyservicetest.CheckKind(t, name, err, keyservice.Invalid, "")
	}
}

// TestLeastPolicy compares the roles with the data actions that Azure documents for the built-in ones. That they suffice shows
// the conformance suite, which runs with nothing else.
func TestLeastPolicy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		config azurekv.Config
		want   []string
	}{
		{azurekv.Config{Vault: "myvault", Key: "k8s"}, []string{
			"Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/keys/wrap/action",
			"Microsoft.KeyVault/vaults/keys/unwrap/action",
		}},
		{azurekv.Config{ManagedHSM: "myhsm", Key: "k8s"}, []string{
			"Microsoft.KeyVault/managedHsm/keys/read/action", "Microsoft.KeyVault/managedHsm/keys/wrap/action",
			"Microsoft.KeyVault/managedHsm/keys/unwrap/action",
		}},
	} {
		var role struct{ Actions, DataActions []string }
		if err := json.Unmarshal([]byte(test.config.LeastPolicy()), &role); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(role.DataActions, test.want) || len(role.Actions) != 0 {
			t.Errorf("%+v", role)
		}
	}
}

package kmip_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/kmip"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

const minimal = `
addresses: ["kmip-1.example.com:5696"]
clientCertFile: /etc/trousseau/kmip.pem
clientKeyFile: /etc/trousseau/kmip-key.pem
key: {name: k8s}
`

func TestConfigDecodes(t *testing.T) {
	t.Parallel()
	var c kmip.Config
	if err := strictyaml.Decode("test.yaml", []byte(minimal), &c); err != nil {
		t.Fatal(err)
	}
	if c.ID() != "kmip:k8s" || c.MAC != nil {
		t.Errorf("decoded %+v", c)
	}
	full := strings.Replace(minimal, "{name: k8s}", "{uniqueID: 49a1ca88}", 1) + `
caFile: /etc/trousseau/kmip-ca.pem
tlsServerName: kmip
mac: {name: k8s-mac}
`
	c = kmip.Config{}
	if err := strictyaml.Decode("test.yaml", []byte(full), &c); err != nil {
		t.Fatal(err)
	}
	if c.ID() != "kmip:49a1ca88+k8s-mac" {
		t.Errorf("decoded %+v", c)
	}
}

// TestConfigRefuses changes one line of a good document. The error names the field.
func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ replace, by, field string }{
		{`["kmip-1.example.com:5696"]`, "[]", "addresses"},
		{`"kmip-1.example.com:5696"`, "kmip-1.example.com", "addresses[0]"},
		{`"kmip-1.example.com:5696"`, "'https://kmip:5696'", "addresses[0]"},
		{`"kmip-1.example.com:5696"`, "':5696'", "addresses[0]"},
		{`"kmip-1.example.com:5696"`, "'kmip:0'", "addresses[0]"},
		{"/etc/trousseau/kmip.pem", "kmip.pem", "clientCertFile"},
		{"/etc/trousseau/kmip-key.pem", "kmip-key.pem", "clientKeyFile"},
		{"clientCertFile: /etc/trousseau/kmip.pem\n", "", "clientCertFile"},
		{"clientKeyFile: /etc/trousseau/kmip-key.pem\n", "", "clientKeyFile"},
		{"key: {name: k8s}", "", "key"},
		{"{name: k8s}", "{}", "key"},
		{"{name: k8s}", "{name: k8s, uniqueID: '1'}", "key"},
		{"{name: k8s}", "{name: " + strings.Repeat("x", 513) + "}", "key"},
		{"{name: k8s}", "{name: k8s}\nmac: {name: k8s}", "mac"},
		{"{name: k8s}", "{name: k8s}\nmac: {}", "mac"},
		{"{name: k8s}", "{name: k8s}\ncaFile: ca.pem", "caFile"},
		{"{name: k8s}", "{name: k8s}\npassword: secret", "password"},
	} {
		var config kmip.Config
		err := strictyaml.Decode("test.yaml", []byte(strings.Replace(minimal, c.replace, c.by, 1)), &config)
		keyservicetest.CheckProblem(t, c.by, err, c.field, "")
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := kmip.Config{
		Addresses: []string{"kmip:5696"}, ClientCertFile: "/c", ClientKeyFile: "/k", Key: kmip.Object{Name: "k8s"},
	}
	for name, change := range map[string]func(*kmip.Config){
		"no address":    func(c *kmip.Config) { c.Addresses = nil },
		"no port":       func(c *kmip.Config) { c.Addresses = []string{"kmip"} },
		"no client key": func(c *kmip.Config) { c.ClientKeyFile = "" },
		"no key":        func(c *kmip.Config) { c.Key = kmip.Object{} },
		"two keys":      func(c *kmip.Config) { c.Key.UniqueID = "1" },
		"no MAC key":    func(c *kmip.Config) { c.MAC = &kmip.Object{} },
		"one for both":  func(c *kmip.Config) { c.MAC = &kmip.Object{Name: "k8s"} },
	} {
		c := good
		change(&c)
		_, err := kmip.Open(t.Context(), c, slog.New(slog.DiscardHandler))
		keyservicetest.CheckKind(t, name, err, keyservice.Invalid, "")
	}
}

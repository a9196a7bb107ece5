package pkcs11_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/pkcs11"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

const minimal = `
module: /usr/lib/hsm.so
token: k8s
pinFile: /etc/trousseau/pin
label: kek-*
`

func TestConfigDecodes(t *testing.T) {
	var c pkcs11.Config
	if err := strictyaml.Decode("test.yaml", []byte(minimal), &c); err != nil {
		t.Fatal(err)
	}
	if c.Mechanism != "aes-gcm" {
		t.Errorf("decoded %+v", c)
	}
	var all pkcs11.Config
	full := `
module: /usr/lib/hsm.so
serial: "0123456789012345"
pinFile: systemd:pin
id: 0A1b
mechanism: aes-gcm
hsmIV: true
`
	if err := strictyaml.Decode("test.yaml", []byte(full), &all); err != nil {
		t.Fatal(err)
	}
}

func TestDefaultID(t *testing.T) {
	for want, c := range map[string]pkcs11.Config{
		"pkcs11:k8s/kek-*":           {Token: "k8s", Label: "kek-*", Module: "/a"},
		"pkcs11:my%20token/k%C3%A9k": {Token: "my token", Label: "kék"},
		"pkcs11:serial=01ab/id=0a1b": {Serial: "01ab", KeyID: "0A1b"},
		"pkcs11:a%2Fb/c%25":          {Token: "a/b", Label: "c%"},
	} {
		if got := c.ID(); got != want {
			t.Errorf("%+v has the id %q, want %q", c, got, want)
		}
	}
}

// TestConfigRefuses changes one line of a good document. The error names the field and says what to do.
func TestConfigRefuses(t *testing.T) {
	for _, c := range []struct{ replace, by, field, text string }{
		{"module: /usr/lib/hsm.so", "module: hsm.so", "module", "is \"hsm.so\", which is not an absolute path"},
		{"module: /usr/lib/hsm.so", `module: "/usr/lib\u0000/hsm.so"`, "module", "is"},
		{"module: /usr/lib/hsm.so", "", "module", "missing"},
		{"token: k8s", "", "", "set exactly one of token, serial"},
		{"token: k8s", "token: k8s\nserial: '01'", "", "set exactly one of token, serial"},
		{"token: k8s", "token: " + strings.Repeat("x", 33), "token", "is longer than 32 bytes"},
		{"token: k8s", "token: 'k8s '", "token", "is longer than 32 bytes, ends with a space"},
		{"token: k8s", "serial: " + strings.Repeat("x", 17), "serial", "is longer than 16 bytes"},
		{"label: kek-*", "", "", "set exactly one of label, id"},
		{"label: kek-*", "label: kek\nid: 0a", "", "set exactly one of label, id"},
		{"label: kek-*", "label: '*-*'", "label", "has more than one *"},
		{"label: kek-*", "id: 0ag", "id", ""},
		{"label: kek-*", "id: 0a1", "id", ""},
		{"pinFile: /etc/trousseau/pin", "pinFile: pin", "pinFile", ""},
		{"pinFile: /etc/trousseau/pin", "pin: 123456", "pin", ""},
		{"label: kek-*", "label: kek-*\nmechanism: aes-cbc", "mechanism", ""},
		{"label: kek-*", "label: kek-*\nmechanism: rsa-oaep\nhsmIV: true", "hsmIV", "is for aes-gcm alone"},
	} {
		var config pkcs11.Config
		err := strictyaml.Decode("test.yaml", []byte(strings.Replace(minimal, c.replace, c.by, 1)), &config)
		keyservicetest.CheckProblem(t, c.by, err, c.field, c.text, "123456")
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	good := pkcs11.Config{Module: "/m.so", Token: "k8s", PINFile: "/p", Label: "kek", Mechanism: "aes-gcm"}
	for name, change := range map[string]func(*pkcs11.Config){
		"nothing":      func(c *pkcs11.Config) { *c = pkcs11.Config{} },
		"no mechanism": func(c *pkcs11.Config) { c.Mechanism = "" },
		"no token":     func(c *pkcs11.Config) { c.Token = "" },
		"odd id":       func(c *pkcs11.Config) { c.Label, c.KeyID = "", "0a1" },
	} {
		c := good
		change(&c)
		_, err := pkcs11.Open(t.Context(), c, slog.New(slog.DiscardHandler))
		keyservicetest.CheckKind(t, name, err, keyservice.Invalid, "")
	}
}

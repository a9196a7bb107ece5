package local_test

import (
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/local"
)

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		config local.Config
		fields []string // that problems are reported of
	}{
		"passphrase":       {local.Config{Keystore: "/k", PassphraseFile: "/p"}, nil},
		"key":              {local.Config{Keystore: "/k", KeyFile: "systemd:key"}, nil},
		"unsealed":         {local.Config{Keystore: "/k", Unsealed: true}, nil},
		"no sealing":       {local.Config{Keystore: "/k"}, []string{""}},
		"two sealings":     {local.Config{Keystore: "/k", PassphraseFile: "/p", Unsealed: true}, []string{""}},
		"relative":         {local.Config{Keystore: "k", KeyFile: "f"}, []string{"keyFile", "keystore"}},
		"nothing":          {local.Config{}, []string{"", "keystore"}},
		"NUL in the paths": {local.Config{Keystore: "/k\x00", PassphraseFile: "/p\x00"}, []string{"keystore", "passphraseFile"}},
	} {
		keyservicetest.CheckFields(t, name, c.config.Validate, c.fields)
	}
}

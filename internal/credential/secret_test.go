package credential_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/trousseau-io/trousseau/internal/credential"
)

func TestSecretNeverPrints(t *testing.T) {
	const plain = "tr0ub4dor"
	secret := credential.NewSecret([]byte(plain))
	type open struct{ Secret credential.Secret }
	type hidden struct{ secret credential.Secret }
	var printed []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "% x", "%p", "%t"} {
		for _, value := range []any{secret, &secret, open{secret}, &open{secret}, hidden{secret}, []any{secret}} {
			printed = append(printed, fmt.Sprintf(verb, value))
		}
	}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("m", "secret", secret, "open", open{secret}, "hidden", hidden{secret})
	}
	asJSON, err := json.Marshal(map[string]any{"secret": secret, "open": open{secret}})
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(map[string]any{"secret": secret, "open": open{secret}})
	if err != nil {
		t.Fatal(err)
	}
	printed = append(printed, log.String(), string(asJSON), string(asYAML))
	for _, s := range printed {
		for _, form := range []string{plain, fmt.Sprintf("%x", plain), fmt.Sprintf("%X", plain), fmt.Sprint([]byte(plain))} {
			if strings.Contains(s, strings.Trim(form, "[]")) {
				t.Errorf("printed: %s", s)
			}
		}
	}
	if got := fmt.Sprint(secret); got != "redacted" {
		t.Errorf("prints as %q", got)
	}
}

func TestSecretWipe(t *testing.T) {
	secret := credential.NewSecret([]byte("tr0ub4dor"))
	alias, b := secret, secret.Bytes()
	secret.Wipe()
	secret.Wipe()
	if !bytes.Equal(b, make([]byte, len(b))) {
		t.Errorf("left after Wipe: %q", b)
	}
	if alias.Bytes() != nil || secret.Bytes() != nil {
		t.Error("bytes after Wipe")
	}
	credential.Secret{}.Wipe()
}

func TestSecretEqual(t *testing.T) {
	a, same, other := credential.NewSecret([]byte("a")), credential.NewSecret([]byte("a")), credential.NewSecret([]byte("b"))
	if !a.Equal(same) || a.Equal(other) || a.Equal(credential.Secret{}) {
		t.Error("Equal does not compare content")
	}
}

func TestFingerprintFollowsContent(t *testing.T) {
	file := write(t, "first\n", 0o600)
	info, err := os.Stat(string(file))
	if err != nil {
		t.Fatal(err)
	}
	read := func() credential.Fingerprint {
		t.Helper()
		print, err := file.Fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		return print
	}
	first := read()
	if read() != first {
		t.Error("another fingerprint for the same content")
	}
	if err := os.WriteFile(string(file), []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(string(file), info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if read() == first {
		t.Error("same fingerprint for other content of the same size and time")
	}
}

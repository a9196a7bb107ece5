package azurekv_test

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/azurekv/azurekvtest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// TestForeignFrames has the vault unwrap what this package did not frame.
func TestForeignFrames(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, aes)
	key := open(t, config)
	wrapped := keyservicetest.Wrap(t, key, "")
	for frame, text := range map[string]string{
		"":                                 "it holds nothing",
		"\x00":                             "too short",
		"\x01\x00\x00\x00\x00\x00\x00\x00": "too short",
		"\x00.......abcdefgh":              "length",
		"\x09.......abcdefgh":              "length",
		"\x08.......abcdefgh\x00":          "length",
		"\xff.......abcdefgh":              "length",
		"\x01.......abcdefghabcdefgh":      "length",
		"\x07.......abcdefgh":              "padding",
		"\x01.......a\x00\x00\x00\x00\x00\x01\x00": "padding",
	} {
		end := fake.Refuse(azurekvtest.Refusal{Status: 200, Path: "/unwrapkey", Body: answer(string(wrapped.Version), []byte(frame))})
		_, err := key.Unwrap(t.Context(), wrapped, nil)
		wantKind(t, err, keyservice.Corrupt, text)
		end()
	}
}

// TestWrongAnswers has the vault wrap with another version, or to something that is no ciphertext.
func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	fake, config := fixture(t, aes)
	key := open(t, config)
	good := keyservicetest.Wrap(t, key, "")
	for _, body := range []string{
		answer("fedcba9876543210fedcba9876543210", good.Bytes),
		answer("", good.Bytes),
		answer(string(good.Version), good.Bytes[1:]),
		answer(string(good.Version), nil),
		fmt.Sprintf(`{"value": %q}`, base64.RawURLEncoding.EncodeToString(good.Bytes)),
	} {
		end := fake.Refuse(azurekvtest.Refusal{Status: 200, Path: "/wrapkey", Body: body})
		_, err := key.Wrap(t.Context(), good.Version, secret, nil)
		wantKind(t, err, keyservice.Corrupt, "asked was for")
		end()
	}
	for _, list := range []string{
		`{"value": [{"kid": "https://v/keys/k8s/short", "attributes": {"enabled": true, "created": 1}}]}`,
		`{"value": [{"kid": "https://v/keys/k8s/fedcba9876543210fedcba9876543210", "attributes": {"enabled": true}}]}`,
		`{"value": [{}]}`, `{"value": [null]}`,
	} {
		end := fake.Refuse(azurekvtest.Refusal{Status: 200, Path: "/versions", Body: list})
		_, _, err := key.Versions(t.Context())
		wantKind(t, err, keyservice.Corrupt, "it lists a version")
		end()
	}
}

func answer(version string, value []byte) string {
	return fmt.Sprintf(`{"kid": "https://v/keys/k8s/%s", "value": %q}`, version, base64.RawURLEncoding.EncodeToString(value))
}

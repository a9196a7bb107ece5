package vault_test

import (
	"encoding/base64"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/vault"
	"github.com/trousseau-io/trousseau/internal/testserver"
)

// BenchmarkWrapUnwrap compares the key with the client library alone, against the same server.
func BenchmarkWrapUnwrap(b *testing.B) {
	v := testserver.StartVault(b)
	v.MountTransit("transit")
	v.CreateKey("transit", keyName, nil)
	e := engine{v, "transit"}
	e.allow(b)
	token := e.token(b, nil)
	key := open(b, e.config(vault.Auth{TokenFile: secretFile(b, token)}), nil)
	wrapped := keyservicetest.Wrap(b, key, "")
	client := v.Client()
	client.SetToken(token)
	encode := base64.StdEncoding.EncodeToString

	b.Run("Wrap/key", func(b *testing.B) {
		for b.Loop() {
			keyservicetest.Wrap(b, key, wrapped.Version)
		}
	})
	b.Run("Wrap/client", func(b *testing.B) {
		for b.Loop() {
			_, err := client.Logical().WriteWithContext(b.Context(), "transit/encrypt/k8s", map[string]any{
				"plaintext": encode(secret), "associated_data": encode(aad), "key_version": 1,
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Unwrap/key", func(b *testing.B) {
		for b.Loop() {
			if _, err := key.Unwrap(b.Context(), wrapped, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Unwrap/client", func(b *testing.B) {
		for b.Loop() {
			_, err := client.Logical().WriteWithContext(b.Context(), "transit/decrypt/k8s", map[string]any{
				"ciphertext": "vault:v1:" + encode(wrapped.Bytes), "associated_data": encode(aad),
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

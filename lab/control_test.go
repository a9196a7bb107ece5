package lab_test

import (
	"bytes"
	"testing"

	"github.com/trousseau-io/trousseau/lab/cluster"
)

// The two ways without a key service show that the other tests look at the right bytes: plaintext is found where it is.

func TestIdentityStoresPlaintext(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, "identity: {}")})
	createSecret(t, c, "plain", plaintext)
	raw := c.Raw(t, etcdKey("plain"))
	if !bytes.HasPrefix(raw, []byte("k8s\x00")) || !bytes.Contains(raw, []byte(plaintext)) {
		t.Errorf("the stored value is not plaintext: %q", raw)
	}
	c.APIServer.Restart()
	wantSecret(t, c, "plain", plaintext)
}

func TestLocalKeySealsWithoutAKeyService(t *testing.T) {
	t.Parallel()
	provider := "aescbc: {keys: [{name: k1, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}"
	c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, provider)})
	createSecret(t, c, "sealed", plaintext)
	wantSealed(t, c, etcdKey("sealed"), "k8s:enc:aescbc:v1:k1:")
	c.APIServer.Restart()
	wantSecret(t, c, "sealed", plaintext)
}

package lab_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/lab/cluster"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kmsv2 "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"google.golang.org/protobuf/proto"
)

// plaintext is what must not be found in etcd.
const plaintext = "correct-horse-battery-staple"

// v2Prefix and v1Prefix are what the stored values of a kms provider named trousseau begin with.
const (
	v2Prefix = "k8s:enc:kms:v2:trousseau:"
	v1Prefix = "k8s:enc:kms:v1:trousseau:"
)

// encryptionConfig writes an EncryptionConfiguration for Secrets and ConfigMaps with one provider and returns its path.
func encryptionConfig(t *testing.T, provider string) string {
	t.Helper()
	return writeFile(t, t.TempDir(), "encryption.yaml", fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, configmaps]
  providers:
  - %s
`, provider))
}

func secrets(c *cluster.Running) corev1client.SecretInterface {
	return c.Client.CoreV1().Secrets("default")
}

// etcdKey is where a Secret of the default namespace lies in etcd.
func etcdKey(name string) string { return "/registry/secrets/default/" + name }

// newSecret is a Secret with one value.
func newSecret(name, value string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"value": []byte(value)}}
}

func createSecret(t *testing.T, c *cluster.Running, name, value string) {
	t.Helper()
	if _, err := secrets(c).Create(t.Context(), newSecret(name, value), metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating secret %q: %v", name, err)
	}
}

// wantSecret fails the test unless the API server answers with that value.
func wantSecret(t *testing.T, c *cluster.Running, name, value string) {
	t.Helper()
	if err := readSecret(t.Context(), c, name, value); err != nil {
		t.Fatal(err)
	}
}

// readSecret returns an error unless the API server answers with that value. The read is of etcd's newest state, not of
// the API server's watch cache.
func readSecret(ctx context.Context, c *cluster.Running, name, value string) error {
	secret, err := secrets(c).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading secret %q: %w", name, err)
	}
	if got := string(secret.Data["value"]); got != value {
		return fmt.Errorf("secret %q is %q, want %q", name, got, value)
	}
	return nil
}

// wantSealed fails the test unless etcd holds the object under the prefix and without the plaintext.
func wantSealed(t *testing.T, c *cluster.Running, key, prefix string) {
	t.Helper()
	raw := c.Raw(t, key)
	if !bytes.HasPrefix(raw, []byte(prefix)) {
		t.Errorf("%s begins with %q, want %q", key, raw[:min(len(raw), 40)], prefix)
	}
	if bytes.Contains(raw, []byte(plaintext)) {
		t.Errorf("%s holds the plaintext", key)
	}
}

// keyID returns the key id that etcd holds beside a Secret.
func keyID(t *testing.T, c *cluster.Running, name string) string {
	t.Helper()
	body, found := bytes.CutPrefix(c.Raw(t, etcdKey(name)), []byte(v2Prefix))
	if !found {
		t.Fatalf("secret %q is not stored by KMS v2", name)
	}
	var object kmsv2.EncryptedObject
	if err := proto.Unmarshal(body, &object); err != nil {
		t.Fatalf("decoding secret %q as etcd holds it: %v", name, err)
	}
	return object.KeyID
}

// eventually fails the test unless try returns nil within the time. It returns how long that took.
func eventually(t *testing.T, within time.Duration, try func() error) time.Duration {
	t.Helper()
	started := time.Now()
	for {
		err := try()
		if err == nil {
			return time.Since(started)
		}
		if time.Since(started) > within {
			t.Fatalf("not within %s: %v", within, err)
		}
		time.Sleep(time.Second)
	}
}

// Package lab_test runs Trousseau the way a cluster does: real etcd, real kube-apiserver, real Vault and the programs that
// an operator installs. What is asserted is what the API server answers and what etcd holds.
package lab_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/lab/cluster"
	"github.com/trousseau-io/trousseau/lab/keyservices"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestStoredObjectsAreSealed goes through every key service. What is written before its key is rotated, and after, is read
// after the API server was restarted.
func TestStoredObjectsAreSealed(t *testing.T) {
	t.Parallel()
	for _, service := range keyservices.All() {
		t.Run(service.Name, func(t *testing.T) {
			t.Parallel()
			key := service.Start(t)
			d := startDaemon(t, daemonConfig{key: key.Entry, env: key.Env, bin: key.Bin})
			c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, d.kmsV2())})
			storeAndReadBack(t, c, v2Prefix)
			rotateAndReadBack(t, c, "one", key.Rotate)
		})
	}
}

// TestKMSv1 stores under the older API, which needs a feature gate.
func TestKMSv1(t *testing.T) {
	t.Parallel()
	for _, service := range keyservices.All()[:2] {
		t.Run(service.Name, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t, daemonConfig{key: service.Start(t).Entry})
			c := cluster.Start(t, cluster.Config{EncryptionConfig: encryptionConfig(t, d.kmsV1()), FeatureGates: "KMSv1=true"})
			storeAndReadBack(t, c, v1Prefix)
		})
	}
}

// storeAndReadBack is a day in the life of Secrets and ConfigMaps, with a restart of the API server, which forgets
// every data key, at its end.
func storeAndReadBack(t *testing.T, c *cluster.Running, prefix string) {
	t.Helper()
	ctx := t.Context()
	createSecret(t, c, "one", plaintext)
	createSecret(t, c, "two", "before")
	changed := newSecret("two", "after-"+plaintext)
	if _, err := secrets(c).Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		t.Fatalf("updating a secret: %v", err)
	}
	configMap := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"value": plaintext},
	}
	configMaps := c.Client.CoreV1().ConfigMaps("default")
	if _, err := configMaps.Create(ctx, configMap, metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating a config map: %v", err)
	}
	wantSealed(t, c, etcdKey("one"), prefix)
	wantSealed(t, c, etcdKey("two"), prefix)
	wantSealed(t, c, "/registry/configmaps/default/settings", prefix)

	c.APIServer.Restart()
	wantSecret(t, c, "one", plaintext)
	wantSecret(t, c, "two", "after-"+plaintext)
	list, err := secrets(c).List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 {
		t.Errorf("listing secrets: %v, %v, want 2", list, err)
	}
	settings, err := configMaps.Get(ctx, "settings", metav1.GetOptions{})
	if err != nil || settings.Data["value"] != plaintext {
		t.Errorf("reading a config map: %v, %v", settings, err)
	}
}

// rotateAndReadBack rotates the key, waits until new writes are under a new key id, and reads what is old and new after a
// restart.
func rotateAndReadBack(t *testing.T, c *cluster.Running, old string, rotate func()) {
	t.Helper()
	oldID := keyID(t, c, old)
	rotate()
	tries := 0
	took := eventually(t, 90*time.Second, func() error {
		c.Ready(t.Context()) // makes the API server ask for the status at most 20 s after it last did, rather than 60
		name := fmt.Sprintf("new-%d", tries)
		tries++
		createSecret(t, c, name, plaintext)
		if keyID(t, c, name) == oldID {
			return fmt.Errorf("secret %q is written under the old key id", name)
		}
		return nil
	})
	t.Logf("new writes were under a new key id %s after the rotation", took.Round(time.Second))

	c.APIServer.Restart()
	wantSecret(t, c, old, plaintext)
	wantSecret(t, c, "new-0", plaintext)
	wantSecret(t, c, fmt.Sprintf("new-%d", tries-1), plaintext)
	if keyID(t, c, old) != oldID {
		t.Error("reading a secret has rewritten it")
	}
	_, err := secrets(c).Patch(t.Context(), old, types.MergePatchType, []byte("{}"), metav1.PatchOptions{})
	if err != nil {
		t.Fatalf("patching the old secret with nothing: %v", err)
	}
	if keyID(t, c, old) == oldID {
		t.Error("an empty patch has left a stale secret under the old key id")
	}
	wantSecret(t, c, old, plaintext)
}

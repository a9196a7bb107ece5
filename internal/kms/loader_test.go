package kms_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/kms"
)

// loaded is an EncryptionConfiguration as a running API server has it.
type loaded struct {
	value.Transformer
	health func() error
}

// load does what an API server does at its start and at a reload. The name of the provider must be unique, because the
// loader keeps clocks by name.
func load(t *testing.T, endpoint, apiVersion, name string) loaded {
	t.Helper()
	path := filepath.Join(t.TempDir(), "encryption.yaml")
	config := fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - kms: {apiVersion: %s, name: %s, endpoint: "%s", timeout: 3s}
  - identity: {}
`, apiVersion, name, endpoint)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := encryptionconfig.LoadEncryptionConfig(t.Context(), path, true, "test")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.HealthChecks) != 1 {
		t.Fatalf("%d health checks, want 1", len(got.HealthChecks))
	}
	return loaded{
		Transformer: got.Transformers[schema.GroupResource{Resource: "secrets"}],
		health: func() error {
			return got.HealthChecks[0].Check((&http.Request{}).WithContext(t.Context()))
		},
	}
}

func TestLoaderV2(t *testing.T) {
	fake := keyservicetest.NewFake(time.Now().Add(-2 * time.Hour))
	endpoint, plugin := serve(t, setup(t, fake))
	running := load(t, endpoint, "v2", "loader-v2")
	if err := running.health(); err != nil {
		t.Error(err)
	}
	stored := write(t, running, secretKey)
	if !bytes.HasPrefix(stored, []byte("k8s:enc:kms:v2:loader-v2:")) {
		t.Errorf("stored %.40q", stored)
	}
	if read(t, running, stored, secretKey) || read(t, load(t, endpoint, "v2", "loader-v2"), stored, secretKey) {
		t.Error("what was just written is stale")
	}
	if _, _, err := running.TransformFromStorage(t.Context(), stored, otherKey); err == nil {
		t.Error("a value that was moved to another key of etcd opens")
	}

	before := plugin.Snapshot().KeyID
	fake.Rotate(time.Now().Add(-time.Hour))
	waitFor(t, "another key id", func() bool { return plugin.Snapshot().KeyID != before })
	restarted := load(t, endpoint, "v2", "loader-v2")
	if !read(t, restarted, stored, secretKey) {
		t.Error("after a rotation the old value is not stale")
	}
	if renewed := write(t, restarted, secretKey); read(t, restarted, renewed, secretKey) {
		t.Error("after a rotation the new value is stale")
	}
}

func TestLoaderV1(t *testing.T) {
	if err := utilfeature.DefaultMutableFeatureGate.Set(string(features.KMSv1) + "=true"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := utilfeature.DefaultMutableFeatureGate.Set(string(features.KMSv1) + "=false"); err != nil {
			t.Error(err)
		}
	})
	fake := keyservicetest.NewFake(time.Now().Add(-2 * time.Hour))
	endpoint, plugin := serve(t, setup(t, fake))
	running := load(t, endpoint, "v1", "loader-v1")
	if err := running.health(); err != nil { // it seals and opens "ping"
		t.Error(err)
	}
	stored := write(t, running, secretKey)
	if !bytes.HasPrefix(stored, []byte("k8s:enc:kms:v1:loader-v1:")) {
		t.Errorf("stored %.40q", stored)
	}
	before := plugin.Snapshot().KeyID
	fake.Rotate(time.Now().Add(-time.Hour))
	waitFor(t, "another key id", func() bool { return plugin.Snapshot().KeyID != before })
	restarted := load(t, endpoint, "v1", "loader-v1") // has no key in its cache
	read(t, restarted, stored, secretKey)
	if _, _, err := restarted.TransformFromStorage(t.Context(), stored, otherKey); err == nil {
		t.Error("a value that was moved to another key of etcd opens")
	}
	stored[len("k8s:enc:kms:v1:loader-v1:")+40] ^= 1
	if _, _, err := restarted.TransformFromStorage(t.Context(), stored, secretKey); err == nil {
		t.Error("a flipped bit in the wrapped key is not noticed")
	}
}

// An API server that starts in an outage can do nothing at all, and recovers by itself.
func TestLoaderStartsInAnOutage(t *testing.T) {
	t.Parallel()
	fake := keyservicetest.NewFake(time.Now().Add(-time.Hour))
	endpoint, plugin := serve(t, setup(t, fake))
	stored := write(t, load(t, endpoint, "v2", "loader-outage"), secretKey)
	fail(t, fake, plugin, keyservice.Unavailable)

	started := load(t, endpoint, "v2", "loader-outage")
	if err := started.health(); err == nil || !strings.Contains(err.Error(), "asking the fake") {
		t.Errorf("healthy in an outage: %v", err)
	}
	if _, _, err := started.TransformFromStorage(t.Context(), stored, secretKey); err == nil {
		t.Error("reads without having a seed: then Status need not be right at the start")
	}
	fake.Break(keyservicetest.Fault{})
	waitFor(t, "health", func() bool { return started.health() == nil }) // what failed is remembered for 3 s
	if read(t, started, stored, secretKey) {
		t.Error("an outage made a value stale")
	}
}

// What happens to an API server that runs: the health check is remembered for 20 s, so this takes a minute.
func TestLoaderFollowsThePlugin(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	const name = "loader-running"
	fake := keyservicetest.NewFake(time.Now().Add(-2 * time.Hour))
	endpoint, plugin := serve(t, setup(t, fake))
	running := load(t, endpoint, "v2", name)
	before := plugin.Snapshot().KeyID
	old := write(t, running, secretKey)

	fake.Rotate(time.Now().Add(-time.Hour))
	waitFor(t, "another key id", func() bool { return plugin.Snapshot().KeyID != before })
	time.Sleep(20 * time.Second)
	if err := running.health(); err != nil {
		t.Errorf("asking for the status after a rotation: %v", err)
	}
	renewed := write(t, running, secretKey)
	if !read(t, running, old, secretKey) || read(t, running, renewed, secretKey) {
		t.Error("the check did not make a seed under the new key id")
	}

	fail(t, fake, plugin, keyservice.Denied)
	time.Sleep(20 * time.Second)
	if err := running.health(); err == nil || !strings.Contains(err.Error(), "PermissionDenied") {
		t.Errorf("healthy with a key that is denied: %v", err)
	}
	read(t, running, renewed, secretKey)
	write(t, running, secretKey) // for 3 minutes
	defer kmsv2.SetNowFuncForTests(name, func() time.Time { return time.Now().Add(3*time.Minute + time.Second) })()
	if _, err := running.TransformToStorage(t.Context(), []byte(secret), secretKey); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("writes 3 minutes after Status failed: %v", err)
	}
	read(t, running, renewed, secretKey)
	read(t, running, old, secretKey)

	fake.Break(keyservicetest.Fault{})
	waitFor(t, "health", func() bool { return running.health() == nil })
	if again := write(t, running, secretKey); read(t, running, again, secretKey) {
		t.Error("a value written after the outage is stale")
	}
}

// fail breaks the fake and waits until the Plugin has noticed.
func fail(t *testing.T, fake *keyservicetest.Fake, plugin *kms.Plugin, kind keyservice.Kind) {
	t.Helper()
	fake.Fail(kind)
	waitFor(t, "Status to fail", func() bool { return plugin.Snapshot().Err != nil })
}

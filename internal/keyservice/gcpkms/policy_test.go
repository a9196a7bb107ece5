package gcpkms_test

import (
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms/gcpkmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// TestLeastPolicy: the role has what every other test runs with, and each permission of it is needed.
func TestLeastPolicy(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	fake.Rotate() // a version before the primary one is asked for by itself
	var role struct {
		IncludedPermissions []string `yaml:"includedPermissions"`
	}
	if err := yaml.Unmarshal([]byte(config(fake).LeastPolicy()), &role); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(role.IncludedPermissions, fake.Permissions()) {
		t.Fatalf("the role has %q, the fake allows %q", role.IncludedPermissions, fake.Permissions())
	}
	for _, permission := range role.IncludedPermissions {
		restore := fake.Permit(slices.DeleteFunc(fake.Permissions(), func(p string) bool { return p == permission })...)
		key := open(t, config(fake), quiet)
		_, _, versionsErr := key.Versions(t.Context())
		w, wrapErr := key.Wrap(t.Context(), "", secret, aad)
		_, unwrapErr := key.Unwrap(t.Context(), w, aad)
		found, _ := key.Inspect(t.Context())
		denied := slices.ContainsFunc([]error{versionsErr, wrapErr, unwrapErr}, func(err error) bool {
			return err != nil && keyservice.KindOf(err) == keyservice.Denied
		})
		if !denied && !strings.Contains(permission, "list") {
			t.Errorf("nothing needs %s", permission)
		}
		if strings.Contains(permission, "list") && found[0].Rule != "gcpkms-versions-unknown" {
			t.Errorf("without %s: %+v", permission, found)
		}
		restore()
	}
}

func TestManualHasTheRole(t *testing.T) {
	t.Parallel()
	manual := keyservicetest.ReadFile(t, "../../../docs/keyservices/gcpkms.md")
	c := gcpkms.Config{Key: "projects/my-project/locations/europe-west3/keyRings/clusters/cryptoKeys/k8s"}
	if role := c.LeastPolicy(); !strings.Contains(manual, role) {
		t.Errorf("the manual does not have this role:\n%s", role)
	}
}

// TestIDHasNoWords: the default id fits where ids go.
func TestIDHasNoWords(t *testing.T) {
	t.Parallel()
	if id := (gcpkms.Config{Key: gcpkmstest.Key}).ID(); id != "gcpkms:trousseau-test/europe-west3/clusters/k8s" {
		t.Errorf("id %q", id)
	}
}

package gcpkms_test

import (
	"slices"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms/gcpkmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

// TestInspect makes one thing wrong at a time.
func TestInspect(t *testing.T) {
	t.Parallel()
	change := func(change func(*kmspb.CryptoKey)) func(*gcpkmstest.Fake) {
		return func(fake *gcpkmstest.Fake) { fake.Change(change) }
	}
	for _, test := range []struct {
		breaks func(*gcpkmstest.Fake)
		want   []string
	}{
		{func(*gcpkmstest.Fake) {}, []string{"gcpkms-ok"}},
		{change(func(k *kmspb.CryptoKey) { k.RotationSchedule = nil }), []string{"gcpkms-rotation-off"}},
		{change(func(k *kmspb.CryptoKey) { k.DestroyScheduledDuration = durationpb.New(24 * time.Hour) }), []string{"gcpkms-destroyed-soon"}},
		{change(func(k *kmspb.CryptoKey) { k.Primary.ImportJob = "job" }), []string{"gcpkms-imported"}},
		{change(func(k *kmspb.CryptoKey) { k.Primary.ProtectionLevel = kmspb.ProtectionLevel_EXTERNAL }), []string{"gcpkms-external"}},
		{change(func(k *kmspb.CryptoKey) { k.Purpose = kmspb.CryptoKey_MAC }), []string{"gcpkms-key-unusable"}},
		{change(func(k *kmspb.CryptoKey) { k.Primary = nil }), []string{"gcpkms-key-unusable"}},
		{func(f *gcpkmstest.Fake) {
			f.SetState(1, kmspb.CryptoKeyVersion_DISABLED)
		}, []string{"gcpkms-primary-unusable", "gcpkms-version-disabled", "gcpkms-wrap-fails"}},
		{func(f *gcpkmstest.Fake) {
			f.Rotate()
			f.Rotate()
			f.SetState(1, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED)
			f.SetState(2, kmspb.CryptoKeyVersion_DISABLED)
		}, []string{"gcpkms-destruction-scheduled", "gcpkms-version-disabled"}},
		{func(f *gcpkmstest.Fake) {
			f.Rotate()
			f.Rotate()
			f.SetPrimary(1)
		}, []string{"gcpkms-primary-not-newest"}},
		{func(f *gcpkmstest.Fake) {
			f.Permit(append(f.Permissions(), "cloudkms.cryptoKeyVersions.destroy")...)
		}, []string{"gcpkms-policy-wide"}},
		{func(f *gcpkmstest.Fake) {
			f.Permit(slices.DeleteFunc(f.Permissions(), func(p string) bool { return p == "cloudkms.cryptoKeyVersions.useToDecrypt" })...)
		}, []string{"gcpkms-unwrap-fails", "gcpkms-policy-narrow"}},
		{func(f *gcpkmstest.Fake) {
			f.Permit(slices.DeleteFunc(f.Permissions(), func(p string) bool { return p == "cloudkms.cryptoKeyVersions.list" })...)
		}, []string{"gcpkms-versions-unknown", "gcpkms-policy-narrow"}},
	} {
		fake := gcpkmstest.Start(t)
		c := config(fake)
		c.CredentialsFile = credential.File(fake.ExternalAccountFile(t, true))
		key := open(t, c, quiet)
		test.breaks(fake)
		found := keyservicetest.Inspect(t, key)
		var rules []string // in the order in which they are found
		for _, f := range found {
			rules = append(rules, f.Rule)
			if f.Where != c.ID() {
				t.Errorf("%+v is not about %s", f, c.ID())
			}
		}
		if !slices.Equal(rules, test.want) {
			t.Errorf("found %q, want %q: %+v", rules, test.want, found)
		}
	}
}

func TestInspectCredential(t *testing.T) {
	t.Parallel()
	_, key := start(t)
	found, err := key.Inspect(t.Context())
	if err != nil || len(found) != 1 || found[0].Rule != "gcpkms-credential-endless" {
		t.Errorf("found %+v, %v", found, err)
	}
}

// TestInspectCannotLook: an outage is not a finding about the key.
func TestInspectCannotLook(t *testing.T) {
	t.Parallel()
	fake, key := start(t)
	fake.Fail(status.Error(codes.Unavailable, "away"))
	_, err := key.Inspect(t.Context())
	wantKind(t, err, keyservice.Unavailable, "away")
}

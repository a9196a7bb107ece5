package awskms_test

import (
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms"
	"github.com/trousseau-io/trousseau/internal/keyservice/awskms/awskmstest"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
)

func TestVersionsFollowRotations(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	arn := fake.CreateKey(false)
	key := open(t, config(t, fake, arn))
	first, none := keyservicetest.Versions(t, key)
	if none.ID != "" || time.Since(first.Created).Abs() > time.Minute {
		t.Errorf("one version: %+v, previous %+v", first, none)
	}
	w := keyservicetest.Wrap(t, key, "")
	if w.Version != first.ID {
		t.Errorf("wrapped by %q, newest is %q", w.Version, first.ID)
	}
	for range 2 {
		time.Sleep(2 * time.Millisecond) // the resolution of rotation dates
		fake.Rotate(arn)
	}
	newest, previous := keyservicetest.Versions(t, key)
	if previous.ID == first.ID || previous.ID == "" || previous.State != keyservice.StateOpenOnly || !previous.Created.Before(newest.Created) {
		t.Errorf("newest %+v, previous %+v, first %+v", newest, previous, first)
	}
	if w := keyservicetest.Wrap(t, key, ""); w.Version != newest.ID {
		t.Errorf("wrapped by %q, newest is %q", w.Version, newest.ID)
	}
	keyservicetest.Unwrap(t, key, w)
}

// TestImportedMaterialWaits: what is imported is no version before the key is rotated to it.
func TestImportedMaterialWaits(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	arn := fake.CreateKey(false)
	fake.SetImported(arn, time.Time{})
	fake.ImportNext(arn)
	key := open(t, config(t, fake, arn))
	first, none := keyservicetest.Versions(t, key)
	if none.ID != "" || first.Created.IsZero() || keyservicetest.Wrap(t, key, "").Version != first.ID {
		t.Errorf("newest %+v, previous %+v", first, none)
	}
	fake.Rotate(arn)
	if newest, previous := keyservicetest.Versions(t, key); newest.ID == first.ID || previous.ID != first.ID {
		t.Errorf("after the rotation: newest %+v, previous %+v, first %+v", newest, previous, first)
	}
}

// TestReplicasAreOneKey: a key in two Regions has one id, the same versions, and opens the other's ciphertexts.
func TestReplicasAreOneKey(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	arn := fake.CreateKey(true)
	fake.Rotate(arn)
	time.Sleep(2 * time.Millisecond)
	replica := fake.Replicate(arn, "us-east-1") // younger than the rotation
	here, there := config(t, fake, arn), config(t, fake, replica)
	if here.ID() != there.ID() {
		t.Errorf("ids %q and %q", here.ID(), there.ID())
	}
	a, b := open(t, here), open(t, there)
	keyservicetest.Unwrap(t, b, keyservicetest.Wrap(t, a, ""))
	newest, previous := keyservicetest.Versions(t, a)
	otherNewest, otherPrevious := keyservicetest.Versions(t, b)
	if newest != otherNewest || previous.ID != otherPrevious.ID || previous.ID == "" {
		t.Errorf("versions %v, %v and %v, %v", newest, previous, otherNewest, otherPrevious)
	}
	if w := keyservicetest.Wrap(t, b, ""); w.Version != newest.ID {
		t.Errorf("wrapped by %q, newest is %q", w.Version, newest.ID)
	}
	fake.SetState(arn, "Disabled")
	keyservicetest.RoundTrip(t, b)
}

// TestOtherKeysBlobIsCorrupt: the credentials may use both keys, and each opens its own only.
func TestOtherKeysBlobIsCorrupt(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	a, b := open(t, config(t, fake, fake.CreateKey(false))), open(t, config(t, fake, fake.CreateKey(false)))
	_, err := b.Unwrap(t.Context(), keyservicetest.Wrap(t, a, ""), aad)
	keyservicetest.WantKind(t, err, keyservice.Corrupt, "IncorrectKeyException")
}

func TestAliasIsFollowedOnce(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	arn := fake.CreateKey(false)
	c := config(t, fake, fake.SetAlias("alias/k8s", arn))
	key := open(t, c)
	w := keyservicetest.Wrap(t, key, "")
	newest, _ := keyservicetest.Versions(t, key)
	if direct, _ := keyservicetest.Versions(t, open(t, config(t, fake, arn))); direct.ID != newest.ID {
		t.Errorf("by alias the version is %q, by ARN %q", newest.ID, direct.ID)
	}
	fake.SetAlias("alias/k8s", fake.CreateKey(false))
	keyservicetest.Unwrap(t, key, w)
	if again := keyservicetest.Wrap(t, key, ""); again.Version != w.Version {
		t.Errorf("the key changed with the alias: %q, then %q", w.Version, again.Version)
	}
	restarted := open(t, c)
	_, err := restarted.Unwrap(t.Context(), w, aad)
	keyservicetest.WantKind(t, err, keyservice.Corrupt, "IncorrectKeyException")
	if again := keyservicetest.Wrap(t, restarted, ""); again.Version == w.Version {
		t.Error("another key has the same version")
	}
}

// TestRotationsThatCannotBeListed: then versions have no time, and nothing is known of the previous one.
func TestRotationsThatCannotBeListed(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	arn := fake.CreateKey(false)
	fake.Rotate(arn)
	id, secretKey := fake.NewUser("999988887777")
	c := config(t, fake, arn)
	keyservicetest.ReplaceFile(t, c.CredentialsFile, "[default]\naws_access_key_id = "+id+"\naws_secret_access_key = "+secretKey+"\n")
	key := open(t, c)
	newest, previous := keyservicetest.Versions(t, key)
	if !newest.Created.IsZero() || previous.ID != "" || keyservicetest.Wrap(t, key, "").Version != newest.ID {
		t.Errorf("newest %+v, previous %+v", newest, previous)
	}
	fake.Fail(awskmstest.Failure{Op: "ListKeyRotations", Status: 400, Code: "ThrottlingException"})
	_, _, err := key.Versions(t.Context())
	keyservicetest.WantKind(t, err, keyservice.Throttled, "ThrottlingException")
}

// TestStates: a key's state has the kind that it deserves, from a call that only says that it is the wrong one.
func TestStates(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	arn := fake.CreateKey(true)
	key := open(t, config(t, fake, arn))
	w := keyservicetest.Wrap(t, key, "")
	for state, kind := range map[string]keyservice.Kind{
		"Disabled": keyservice.Disabled, "PendingDeletion": keyservice.Disabled, "PendingReplicaDeletion": keyservice.Disabled,
		"PendingImport": keyservice.Disabled, "Unavailable": keyservice.Unavailable, "Creating": keyservice.Unavailable,
	} {
		fake.SetState(arn, state)
		_, err := key.Wrap(t.Context(), "", secret, aad)
		keyservicetest.WantKind(t, err, kind, "")
		_, err = key.Unwrap(t.Context(), w, aad)
		keyservicetest.WantKind(t, err, kind, "")
		newest, _, err := key.Versions(t.Context())
		if kind == keyservice.Unavailable {
			keyservicetest.WantKind(t, err, kind, state)
		} else if err != nil || newest.State != keyservice.StateDisabled || newest.ID != w.Version {
			t.Errorf("%s: newest %+v, error %v", state, newest, err)
		}
	}
	fake.SetState(arn, "Updating")
	keyservicetest.RoundTrip(t, key)

	fake.SetCustomKeyStore(arn) // as a key whose material was never imported: none is named
	fake.SetState(arn, "PendingImport")
	_, _, err := key.Versions(t.Context())
	keyservicetest.WantKind(t, err, keyservice.Disabled, "PendingImport")
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	fake := awskmstest.Start(t)
	for name, change := range map[string]func(arn string){
		"signs":                 func(arn string) { fake.SetSpec(arn, "RSA_2048", "SIGN_VERIFY") },
		"encrypts with RSA":     func(arn string) { fake.SetSpec(arn, "RSA_4096", "ENCRYPT_DECRYPT") },
		"in a custom key store": fake.SetCustomKeyStore,
	} {
		arn := fake.CreateKey(false)
		change(arn)
		key := open(t, config(t, fake, arn))
		if _, err := key.Wrap(t.Context(), "", secret, aad); err == nil || keyservice.KindOf(err) != keyservice.Invalid {
			t.Errorf("%s: wrapping: %v", name, err)
		}
		if _, _, err := key.Versions(t.Context()); err == nil || keyservice.KindOf(err) != keyservice.Invalid {
			t.Errorf("%s: listing versions: %v", name, err)
		}
	}
}

func TestID(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab":  "awskms:111122223333/mrk-1234abcd12ab34cd56ef1234567890ab",
		"arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab":     "awskms:111122223333/mrk-1234abcd12ab34cd56ef1234567890ab",
		"arn:aws-cn:kms:cn-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab": "awskms:111122223333/1234abcd-12ab-34cd-56ef-1234567890ab",
		"arn:aws-eusc:kms:eusc-de-east-1:111122223333:key/a":                              "awskms:111122223333/a",
		"arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/prod/k8s":                    "awskms:111122223333/alias/prod/k8s",
	} {
		if id := (awskms.Config{KeyARN: arn, Endpoint: "https://a"}).ID(); id != want {
			t.Errorf("%s: id %q, want %q", arn, id, want)
		}
	}
}

package tpm_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/local"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmtest"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

// copyKeystore does what scp does.
func copyKeystore(t *testing.T, from, to tpm.Config) {
	t.Helper()
	content, err := os.ReadFile(from.Keystore)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to.Keystore, string(content))
}

func verified(t *testing.T, config tpm.Config, pcrs string) keyservice.VersionID {
	t.Helper()
	v, err := config.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.PCRs.String() != pcrs || v.Auth != (config.AuthFile != "") {
		t.Errorf("sealed to PCRs %s, auth %t", v.PCRs, v.Auth)
	}
	newest, _ := v.Newest()
	return newest.ID
}

// carry brings the keystore's key from one node to another.
func carry(t *testing.T, from, to tpm.Config) error {
	t.Helper()
	dir := t.TempDir()
	asked, granted := filepath.Join(dir, "request"), filepath.Join(dir, "grant")
	request, err := to.Request(t.Context(), asked, pcr7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := from.Grant(t.Context(), asked, request.Fingerprint(), granted); err != nil {
		t.Fatal(err)
	}
	_, err = to.Accept(t.Context(), granted)
	return err
}

func TestCreateOverwritesNothing(t *testing.T) {
	device := tpmtest.Start(t)
	for _, there := range []func(tpm.Config) string{
		func(c tpm.Config) string { return c.Keystore }, func(c tpm.Config) string { return c.SealedKey },
	} {
		config := node(t, device)
		write(t, there(config), "mine")
		if _, err := config.Create(t.Context(), pcr7); !errors.Is(err, fs.ErrExist) {
			t.Errorf("error %v", err)
		}
		entries, err := os.ReadDir(filepath.Dir(config.Keystore))
		if err != nil || len(entries) != 1 {
			t.Errorf("left %v, %v", entries, err)
		}
	}
}

func TestTwoNodes(t *testing.T) {
	first, device := created(t, tpmtest.Start(t)), tpmtest.Start(t)
	second := node(t, device)
	second.AuthFile = credential.File(write(t, filepath.Join(t.TempDir(), "auth"), "an auth value"))
	keyservicetest.WantKind(t, carry(t, first, second), keyservice.NotFound, "no such file") // the keystore
	copyKeystore(t, first, second)
	if err := carry(t, first, second); err != nil {
		t.Fatal(err)
	}
	if verified(t, first, "7") != verified(t, second, "7") {
		t.Error("the nodes have other versions")
	}
	wrapped, err := open(t, first, quiet).Wrap(t.Context(), "", []byte("a secret"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	key := open(t, second, quiet)
	got, err := key.Unwrap(t.Context(), wrapped, []byte("aad"))
	if err != nil || string(got) != "a secret" {
		t.Errorf("the second node unwraps %q, %v", got, err)
	}

	// A rotated keystore is copied as it is: its key stays the same.
	rotated := rotate(t, first)
	copyKeystore(t, first, second)
	if keyservicetest.Newest(t, key) != rotated {
		t.Error("the second node did not take the rotated keystore over")
	}

	// A sealed key is of no use elsewhere, and neither is a TPM that was cleared. Either node helps the other.
	moved := second
	moved.SealedKey, moved.AuthFile = first.SealedKey, ""
	_, err = moved.Verify(t.Context())
	keyservicetest.WantKind(t, err, keyservice.NotFound, "another TPM")
	device.Clear()
	_, err = second.Verify(t.Context())
	keyservicetest.WantKind(t, err, keyservice.NotFound, "was cleared")
	if err := carry(t, first, second); err != nil {
		t.Fatal(err)
	}
	verified(t, second, "7")
}

func TestGrantChecksWhatItGives(t *testing.T) {
	device := tpmtest.Start(t)
	first, second := created(t, device), node(t, tpmtest.Start(t))
	dir := t.TempDir()
	asked, granted := filepath.Join(dir, "request"), filepath.Join(dir, "grant")
	request, err := second.Request(t.Context(), asked, pcr7)
	if err != nil {
		t.Fatal(err)
	}
	_, err = first.Grant(t.Context(), asked, "0000-0000-0000-0000-0000-0000-0000-0000", granted)
	keyservicetest.WantKind(t, err, keyservice.Denied, request.Fingerprint())
	_, err = first.Grant(t.Context(), first.Keystore, request.Fingerprint(), granted)
	keyservicetest.WantKind(t, err, keyservice.Invalid, "does not begin with")
	wrong := first
	wrong.Keystore = created(t, device).Keystore
	_, err = wrong.Grant(t.Context(), asked, request.Fingerprint(), granted)
	keyservicetest.WantKind(t, err, keyservice.Denied, "wrong passphrase or key")
	if _, err := os.Stat(granted); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a grant was written: %v", err)
	}
	if _, err := first.Grant(t.Context(), asked, request.Fingerprint(), granted); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Grant(t.Context(), asked, request.Fingerprint(), granted); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}

	// Somebody may carry another keystore, or another's grant.
	copyKeystore(t, wrong, second)
	_, err = second.Accept(t.Context(), granted)
	keyservicetest.WantKind(t, err, keyservice.Denied, "wrong passphrase or key")
	_, err = first.Accept(t.Context(), granted)
	keyservicetest.WantKind(t, err, keyservice.NotFound, "another TPM")
	_, err = first.Accept(t.Context(), asked)
	keyservicetest.WantKind(t, err, keyservice.Invalid, "does not begin with")
	verified(t, first, "7")
}

// What an operator does for an update that will change PCR 7, and after one that nobody expected.
func TestUpdates(t *testing.T) {
	device := tpmtest.Start(t)
	config := created(t, device)
	info, err := os.Stat(config.SealedKey)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if err := os.Chmod(config.SealedKey, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Reseal(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	device.Restart()
	device.Extend(7)
	verified(t, config, "none")
	if _, err := config.Reseal(t.Context(), pcr7|1<<11); err != nil {
		t.Fatal(err)
	}
	verified(t, config, "7,11")
	if info, err = os.Stat(config.SealedKey); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode became %v, %v", info.Mode(), err)
	}

	device.Restart() // and PCR 7 has the value of before
	_, err = config.Verify(t.Context())
	keyservicetest.WantKind(t, err, keyservice.Denied, "PCR 7 changed")
	_, err = config.Reseal(t.Context(), pcr7)
	keyservicetest.WantKind(t, err, keyservice.Denied, "PCR 7 changed")
}

func TestBackup(t *testing.T) {
	device := tpmtest.Start(t)
	config := created(t, device)
	identity, another := identityFor(t), identityFor(t)
	recipients, err := tpm.ParseRecipients([]string{another.Recipient().String(), identity.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := config.Backup(t.Context(), backup, recipients); err != nil {
		t.Fatal(err)
	}
	if err := config.Backup(t.Context(), backup, recipients); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	device.Clear()
	file := func(of *age.X25519Identity) credential.File {
		return credential.File(write(t, filepath.Join(t.TempDir(), "identity"), "# a comment\n"+of.String()+"\n"))
	}
	stranger := identityFor(t)
	_, err = config.Restore(t.Context(), backup, file(stranger), pcr7)
	keyservicetest.WantKind(t, err, keyservice.Denied, "another recipient")
	if _, err = config.Restore(t.Context(), config.Keystore, file(identity), pcr7); err == nil {
		t.Error("restored from a keystore")
	}
	if _, err := config.Restore(t.Context(), backup, file(identity), pcr7); err != nil {
		t.Fatal(err)
	}
	id := verified(t, config, "7")

	// Without any TPM the backup is a key file, for the same keystore.
	plain := local.Config{Keystore: config.Keystore, KeyFile: credential.File(write(t, filepath.Join(t.TempDir(), "key"), decrypt(t, backup, identity)))}
	key, err := local.Open(t.Context(), plain, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	if v, _, err := key.Versions(t.Context()); err != nil || v.ID != id {
		t.Errorf("as a key file: %v, %v", v, err)
	}
}

// A keystore that a key file seals moves to the TPM by way of a backup.
func TestRestoreFromAKeyFile(t *testing.T) {
	config, of := node(t, tpmtest.Start(t)), identityFor(t)
	identities := credential.File(write(t, filepath.Join(t.TempDir(), "identity"), of.String()))
	const key = "b3f1Jx0V9yQ4mW7eKc2sT8uN5rL6pZaD"
	v, err := keystore.Create(config.Keystore, keystore.Key(credential.NewSecret([]byte(key))))
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]struct {
		kind keyservice.Kind
		text string
	}{
		key: {}, key + "\n": {}, key + "\r\n": {},
		key + "\n\n":              {keyservice.Denied, "wrong passphrase or key"},
		"short":                   {keyservice.Invalid, "too short a secret"},
		strings.Repeat(key, 4):    {keyservice.Denied, "wrong passphrase or key"},
		strings.Repeat(key, 1000): {keyservice.Denied, "wrong passphrase or key"},
	} {
		backup := filepath.Join(t.TempDir(), "backup")
		encrypt(t, backup, content, of.Recipient())
		_, err := config.Restore(t.Context(), backup, identities, pcr7)
		if want.text != "" {
			keyservicetest.WantKind(t, err, want.kind, want.text)
		} else if err != nil || verified(t, config, "7") != v.ID {
			t.Errorf("%.40q: %v", content, err)
		}
	}
}

func TestRecipients(t *testing.T) {
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		recipients []string
		ok         bool
	}{
		"X25519": {[]string{identityFor(t).Recipient().String()}, true}, "post-quantum": {[]string{pq.Recipient().String()}, true},
		"none": {nil, false}, "damaged": {[]string{identityFor(t).Recipient().String() + "q"}, false},
		"an identity": {[]string{identityFor(t).String()}, false},
	} {
		_, err := tpm.ParseRecipients(c.recipients)
		if c.ok != (err == nil) || err != nil && strings.Contains(err.Error(), "AGE-SECRET") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRotateWaitsForItsTime(t *testing.T) {
	config := created(t, tpmtest.Start(t))
	if _, err := config.Rotate(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Rotate(t.Context(), time.Hour); !errors.Is(err, keystore.ErrPending) {
		t.Errorf("error %v", err)
	}
}

func identityFor(t *testing.T) *age.X25519Identity {
	t.Helper()
	of, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return of
}

func encrypt(t *testing.T, path, content string, recipient age.Recipient) {
	t.Helper()
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipient)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, path, sealed.String())
}

func decrypt(t *testing.T, path string, of age.Identity) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := age.Decrypt(file, of)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/tpm/tpmseal"
	"github.com/trousseau-io/trousseau/internal/keystore"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// withVerifiedKey is withKey for a key that leaves the node: it has to open the keystore.
func (c *Config) withVerifiedKey(ctx context.Context, f func(credential.Secret) error) error {
	return c.withKey(ctx, func(key credential.Secret, _ *tpmseal.SealedKey) error {
		if _, err := keystore.Verify(c.Keystore, keystore.Key(key)); err != nil {
			return fail("opening the keystore with the key", err)
		}
		return f(key)
	})
}

// ParseRecipients reads age recipients (age1..., also post-quantum ones). The error does not repeat what it read.
func ParseRecipients(recipients []string) ([]age.Recipient, error) {
	parsed, err := age.ParseRecipients(strings.NewReader(strings.Join(recipients, "\n")))
	if err != nil {
		return nil, fmt.Errorf("reading age recipients: %w", err)
	}
	return parsed, nil
}

// Backup writes the keystore's key, encrypted to the recipients, to a new file. Any of their identities opens it, with
// Restore or with age. The keystore itself is not in it.
func (c Config) Backup(ctx context.Context, path string, recipients []age.Recipient) error {
	err := c.withVerifiedKey(ctx, func(key credential.Secret) error {
		var backup bytes.Buffer
		var err error
		secretmem.Do(func() { err = encrypt(&backup, key.Bytes(), recipients) })
		if err != nil {
			return err
		}
		return writeNew(path, backup.Bytes())
	})
	return wrapped(fmt.Sprintf("backing up the key to %q", path), err)
}

func encrypt(to io.Writer, key []byte, recipients []age.Recipient) error {
	w, err := age.Encrypt(to, recipients...)
	if err != nil {
		return err
	}
	if _, err := w.Write(key); err != nil {
		return err
	}
	return w.Close()
}

// Restore opens a backup with the age identities in a file, checks that the key opens the keystore, and seals it to the
// present values of the PCRs. It replaces a sealed key that is there. The backup may be any key file that age encrypted.
func (c Config) Restore(ctx context.Context, path string, identities credential.File, pcrs tpmseal.PCRs) (Verified, error) {
	key, err := openBackup(path, identities)
	if err != nil {
		return Verified{}, fmt.Errorf("restoring the key from %q: %w", path, err)
	}
	defer key.Wipe()
	return c.install(ctx, key, pcrs)
}

func openBackup(path string, identities credential.File) (key credential.Secret, err error) {
	text, err := identities.Read()
	if err != nil {
		return key, err
	}
	defer text.Wipe()
	content, err := readAny(path)
	if err != nil {
		return key, err
	}
	secretmem.Do(func() {
		parsed, e := age.ParseIdentities(bytes.NewReader(text.Bytes()))
		if e != nil {
			err = fmt.Errorf("reading the identities in %q: %w", identities, e)
			return
		}
		key, err = decrypt(content, parsed)
	})
	return key, err
}

func decrypt(content []byte, identities []age.Identity) (credential.Secret, error) {
	r, err := age.Decrypt(bytes.NewReader(content), identities...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return credential.Secret{}, &keyservice.Error{
			Kind: keyservice.Denied, Op: "opening the backup", Err: errors.New("the identity is of another recipient"),
			Hint: "give the file with the identity of one of the recipients that the backup was made for",
		}
	}
	if err != nil {
		return credential.Secret{}, err
	}
	key := make([]byte, tpmseal.MaxSecretSize+3) // a newline as well, and one more to see that it is too large
	defer secretmem.Wipe(key)
	n, err := io.ReadFull(r, key)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return credential.Secret{}, err
	}
	return credential.NewSecret(withoutNewline(key[:n])), nil
}

// withoutNewline takes one newline from the end, which is no part of a key file's secret either.
func withoutNewline(key []byte) []byte {
	if cut, ok := bytes.CutSuffix(key, []byte("\n")); ok {
		return bytes.TrimSuffix(cut, []byte("\r"))
	}
	return key
}

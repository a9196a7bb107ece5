package local

import (
	"errors"
	"io/fs"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

var (
	errClosed   = errors.New("the key is closed")
	errSize     = errors.New("the secret is empty or too long")
	errOpen     = errors.New("the bytes do not open: changed, or wrapped with other associated data or by another key")
	errDisabled = errors.New("the version is switched off for this")
	errSecret   = errors.New("the keystore's secret cannot be read")
)

// kinds assigns every cause its kind, the first match counts. A cause that is not listed is an I/O error: Unavailable.
// Where the hint is empty, package keystore has one.
var kinds = []struct {
	cause error
	kind  keyservice.Kind
	hint  string
}{
	{errClosed, keyservice.Unavailable, "this daemon is shutting down or reloading; try again"},
	{errSize, keyservice.Invalid, "wrap 1 to 60 bytes"},
	{errOpen, keyservice.Corrupt, "restore what was wrapped from a backup"},
	{errDisabled, keyservice.Disabled, "wrap with the newest version; unwrapping needs a keystore that has this one enabled"},
	{errSecret, keyservice.Denied, "write the passphrase or key to its file, with mode 0600, for the daemon's user"},
	{keystore.ErrNoVersion, keyservice.NotFound, ""},
	{keystore.ErrWrongSecret, keyservice.Denied, ""},
	{keystore.ErrDamaged, keyservice.Corrupt, ""},
	{keystore.ErrSealing, keyservice.Invalid, ""},
	{keystore.ErrInvalid, keyservice.Invalid, ""},
	{keystore.ErrWeakSecret, keyservice.Invalid, ""},
	{credential.ErrExposed, keyservice.Denied, "chmod 0600 the keystore; if others could read it, rotate it and re-encrypt"},
	{fs.ErrPermission, keyservice.Denied, "give the keystore to the user that the daemon runs as (chown)"},
	{fs.ErrNotExist, keyservice.NotFound, "run `trousseau keystore create`, or copy it from another node of the cluster"},
}

// fail returns the error of an operation on the key, or nil if err is nil. What another key service has judged stays so.
func (s *Source) fail(verb string, err error) error {
	if err == nil {
		return nil
	}
	op := verb + " " + s.Name + " key"
	if e, ok := errors.AsType[*keyservice.Error](err); ok {
		return &keyservice.Error{Kind: e.Kind, Op: op, Hint: e.Hint, Err: err}
	}
	for _, k := range kinds {
		if errors.Is(err, k.cause) {
			hint := k.hint
			if hint == "" {
				hint = keystore.Hint(err)
			}
			return &keyservice.Error{Kind: k.kind, Op: op, Hint: hint, Err: err}
		}
	}
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: err}
}

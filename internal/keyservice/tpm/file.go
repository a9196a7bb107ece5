package tpm

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

// maxFileSize is more than any file here has; parsers refuse what is cut.
const maxFileSize = 64 << 10

// kinds assigns what is wrong with the node's own files its kind. What is not listed is an I/O error: Unavailable. Where the
// hint is empty, package keystore has one.
var kinds = []struct {
	cause error
	kind  keyservice.Kind
	hint  string
}{
	{keystore.ErrWrongSecret, keyservice.Denied, "keystore and sealed key do not belong together: copy this cluster's keystore " +
		"here, or seal its key anew with `trousseau tpm request`, `grant` and `accept`"},
	{keystore.ErrSealing, keyservice.Invalid, "name a keystore that `trousseau tpm create` made, or one that a key seals"},
	{keystore.ErrWeakSecret, keyservice.Invalid, "restore a key of 32 to 128 bytes"},
	{keystore.ErrDamaged, keyservice.Corrupt, ""},
	{keystore.ErrInvalid, keyservice.Invalid, ""},
	{credential.ErrExposed, keyservice.Denied, "chmod 0600 the file"},
	{fs.ErrPermission, keyservice.Denied, "give the file to the user that this process runs as (chown)"},
	{fs.ErrNotExist, keyservice.NotFound, "on the first node run `trousseau tpm create`; on the others copy the keystore from " +
		"there, and get its key with `trousseau tpm request`, `grant` and `accept`"},
}

// fail returns the error of an operation on the node's files, or nil if err is nil. What was judged before stays so.
func fail(op string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*keyservice.Error](err); ok {
		return &keyservice.Error{Kind: e.Kind, Op: op, Hint: e.Hint, Err: err}
	}
	for _, k := range kinds {
		if errors.Is(err, k.cause) {
			return &keyservice.Error{Kind: k.kind, Op: op, Hint: cmp.Or(k.hint, keystore.Hint(err)), Err: err}
		}
	}
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Err: err}
}

// advise returns an error of package local, whose hints are about files with secrets, with the hint that fits here.
func advise(err error) error {
	e, ok := errors.AsType[*keyservice.Error](err)
	if !ok {
		return err
	}
	if _, judged := errors.AsType[*keyservice.Error](e.Err); judged { // by this package already
		return err
	}
	return &keyservice.Error{Kind: e.Kind, Op: e.Op, Hint: cmp.Or(keyservice.HintOf(fail(e.Op, e.Err)), e.Hint), Err: e.Err}
}

// readSealed returns the content of the file with the sealed key, which nobody else may change.
func (c *Config) readSealed() ([]byte, error) {
	file, err := credential.OpenPrivate(c.SealedKey)
	if err != nil {
		return nil, fail("reading the sealed key", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFileSize))
	return content, fail("reading the sealed key", err)
}

// readAny returns the content of a file that was carried here.
func readAny(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxFileSize))
}

// writeNew writes a file to a path where nothing is yet: complete, or not at all.
func writeNew(path string, content []byte) error {
	leave := func(*os.File) error { return nil }
	return write(path, content, leave, func(temporary string) error { return os.Link(temporary, path) })
}

// replace writes a file in the place of another, if there is one, whose owner and mode it keeps.
func replace(path string, content []byte) error {
	old, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return writeNew(path, content)
	}
	if err != nil {
		return err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil { // replacing a link would leave its target as it was
		return err
	}
	like := func(file *os.File) error {
		if err := giveTo(file, old); err != nil {
			return fmt.Errorf("keeping its owner: %w", err)
		}
		return file.Chmod(old.Mode().Perm())
	}
	return write(path, content, like, func(temporary string) error { return os.Rename(temporary, path) })
}

// write has the content on disk in full before place puts it where it belongs.
func write(path string, content []byte, prepare func(*os.File) error, place func(temporary string) error) (err error) {
	dir, name := filepath.Split(filepath.Clean(path))
	file, err := os.CreateTemp(filepath.Clean(dir+"."), "."+name+".*.new")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	err = prepare(file)
	if err == nil {
		_, err = file.Write(content)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := place(file.Name()); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync() // makes the new name last through a power failure
}

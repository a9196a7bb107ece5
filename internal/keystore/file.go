package keystore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// read returns the content of a file that nobody else can read or change. It uses one buffer and no growing one, whose
// copies would not be wiped; the caller wipes what it gets.
func read(path string) ([]byte, error) {
	file, err := credential.OpenPrivate(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content := make([]byte, maxFileSize+1) // one more, for parse to see that it is too large
	n, err := io.ReadFull(file, content)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return content[:n], nil
}

// writeNew writes a keystore to a path where nothing is yet. The file appears complete or not at all.
func writeNew(path string, records *secretmem.Buffer, sealer Sealer) error {
	if _, err := os.Lstat(path); err == nil { // before argon2id spends its time; Link decides
		return fmt.Errorf("%w: remove it first if nothing needs its keys any more", fs.ErrExist)
	}
	unlock, err := lock(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	leave := func(*os.File) error { return nil }
	link := func(temporary string) error { return os.Link(temporary, path) } // a rename would overwrite
	return write(path, records, sealer, leave, link)
}

// replace writes a keystore in place of the one at path and keeps its owner and mode: the daemon that reads it may
// run as another user than the tool that writes it. The caller holds the lock.
func replace(path string, records *secretmem.Buffer, sealer Sealer) error {
	old, err := os.Stat(path)
	if err != nil {
		return err
	}
	like := func(file *os.File) error {
		if err := giveTo(file, old); err != nil {
			return fmt.Errorf("keeping its owner: %w", err)
		}
		return file.Chmod(old.Mode().Perm())
	}
	rename := func(temporary string) error { return os.Rename(temporary, path) }
	return write(path, records, sealer, like, rename)
}

// write seals the records into a temporary file beside path, has it on disk in full, and lets place put it where it
// belongs. Whatever fails before leaves the path as it was. The temporary file has a fixed name, so that the next write
// removes what a killed process left; the lock keeps writers apart.
func write(path string, records *secretmem.Buffer, sealer Sealer,
	prepare func(*os.File) error, place func(temporary string) error) error {
	content, err := sealer.seal(records)
	if err != nil {
		return err
	}
	defer secretmem.Wipe(content) // an unsealed one holds the keys
	dir, name := filepath.Split(path)
	temporary := filepath.Join(dir, "."+name+".new")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer os.Remove(temporary)
	if err := writeSynced(temporary, content, prepare); err != nil {
		return err
	}
	if err := place(temporary); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeSynced writes a new file and returns once the disk has it.
func writeSynced(path string, content []byte, prepare func(*os.File) error) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := prepare(file); err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		return err
	}
	return file.Sync()
}

// syncDir makes a new name in a directory last through a power failure.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

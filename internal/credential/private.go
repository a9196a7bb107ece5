package credential

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// strangers are the permission bits that no file with a secret may have: others may not read or write it, and its group
// may not write it. A group that may read is a choice that the operator can make.
const strangers fs.FileMode = 0o026

// ErrExposed means that more than its owner can read or change a file.
var ErrExposed = errors.New("more than its owner can read or change it")

// OpenPrivate opens a regular file for reading and refuses one that others may read or write, or that its group may
// write, as ErrExposed. The check looks at the opened file, so that nobody can exchange it in between.
func OpenPrivate(path string) (*os.File, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.Mode().Perm()&strangers != 0 {
		err = fmt.Errorf("%q has mode %#o: %w: chmod 0600 %s", path, info.Mode().Perm(), ErrExposed, path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// openRegular does not wait: opening a named pipe without a writer would block for ever.
func openRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: give it to the user that this process runs as (chown), with mode 0600", err)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q is not a regular file (%s): name the file that holds the secret", path, info.Mode())
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// readUpTo reads at most limit bytes through one buffer that it wipes: a buffer that grows would leave copies behind.
func readUpTo(file *os.File, limit int) ([]byte, error) {
	buf := make([]byte, limit+1)
	defer clear(buf)
	n, err := io.ReadFull(file, buf)
	switch {
	case err == nil:
		return nil, fmt.Errorf("%q holds more than %d bytes: it is not a credential", file.Name(), limit)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return append(make([]byte, 0, n), buf[:n]...), nil
	}
	return nil, err
}

// Package credential reads secrets from where operators may keep them: files and systemd credentials.
//
// It promises that a secret is read only from a file that no stranger can read or change, that it is read whole or not at
// all, and that what was read cannot print itself. It does not watch files and caches nothing: callers compare
// fingerprints when they want to know of a change. It does not lock memory either; see package secretmem.
package credential

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// MaxSize is the size in bytes of the largest credential.
const MaxSize = 64 << 10

// scheme introduces the name of a systemd credential.
const scheme = "systemd:"

// directoryVariable is set by systemd for units with LoadCredential= and its relatives; see systemd.exec(5).
const directoryVariable = "CREDENTIALS_DIRECTORY"

// File says where a secret is kept: the absolute path of a file, or "systemd:NAME" for the credential NAME that systemd
// passes to the unit. It is the type for configuration fields (a plain string in YAML) and holds nothing secret. The zero
// File means that none is configured; callers test for it where the credential is optional.
type File string

// Validate checks the name alone and touches no file. The error starts with what is wrong and ends with the fix.
func (f File) Validate() error {
	name, systemd := strings.CutPrefix(string(f), scheme)
	switch {
	case f == "":
		return errors.New("the path is empty: write an absolute path, or systemd:NAME")
	case strings.ContainsRune(string(f), 0):
		return fmt.Errorf("%q contains a NUL byte: write an absolute path, or systemd:NAME", f)
	case systemd && !validName(name):
		return fmt.Errorf("%q names no systemd credential: write systemd:NAME with the NAME of a LoadCredential= line", f)
	case !systemd && !filepath.IsAbs(string(f)):
		return fmt.Errorf("%q is not absolute: write an absolute path, or systemd:NAME", f)
	}
	return nil
}

// validName reports whether systemd would accept name for a credential: a file name without colons and control
// characters, so that no name leads out of the credentials directory.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 &&
		!strings.ContainsAny(name, "/:") && !strings.ContainsFunc(name, unicode.IsControl)
}

// Read returns the content of the file without one final newline (\n or \r\n). It refuses what is not a regular file
// (symbolic links are followed), an empty or too large file, and a file that others may read or write or that its group
// may write. Files of systemd credentials are not checked for permissions: systemd owns their directory. The caller wipes
// the Secret when it is done with it.
func (f File) Read() (Secret, error) {
	secret, err := f.read()
	if err != nil {
		return Secret{}, fmt.Errorf("reading credential: %w", err)
	}
	return secret, nil
}

func (f File) read() (Secret, error) {
	file, err := f.open()
	if err != nil {
		return Secret{}, err
	}
	defer file.Close()
	content, err := readUpTo(file, MaxSize)
	if err != nil {
		return Secret{}, err
	}
	secret := trimNewline(content)
	if len(secret) == 0 {
		return Secret{}, fmt.Errorf("%q is empty: write the secret into it", f)
	}
	return own(secret), nil
}

func (f File) open() (*os.File, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	name, systemd := strings.CutPrefix(string(f), scheme)
	if !systemd {
		return OpenPrivate(string(f))
	}
	dir := os.Getenv(directoryVariable)
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("%q: systemd passes no credentials to this process: "+
			"add LoadCredential=%s:/path/to/file to the unit, or configure a path", f, name)
	}
	file, err := openRegular(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: add LoadCredential=%s:/path/to/file to the unit", err, name)
	}
	return file, err
}

// trimNewline removes one newline from the end: editors and echo write one that is not meant.
func trimNewline(b []byte) []byte {
	n := len(b)
	if n > 0 && b[n-1] == '\n' {
		n--
		if n > 0 && b[n-1] == '\r' {
			n--
		}
	}
	return b[:n]
}

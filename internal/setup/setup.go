// Package setup writes what a cluster needs to start with Trousseau: the daemon's configuration, a keystore if a key is
// local, and the EncryptionConfiguration.
//
// It promises to write all files or none, never to overwrite one, and that what it writes is accepted by the daemon and
// by kube-apiserver. It starts nothing, calls no key service and changes nothing outside of one directory.
package setup

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/trousseau-io/trousseau/internal/config"
	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/encconfig"
	"github.com/trousseau-io/trousseau/internal/keystore"
)

// Names of the files in Options.Dir.
const (
	ConfigName     = "trousseaud.yaml"
	EncryptionName = "encryption-config.yaml"
	KeystoreName   = "keystore"
	KeyName        = "keystore.key"
)

// localName is the name, in the configuration, of the key that is made here.
const localName = "disk"

// Options says what to set up, with one key at least.
type Options struct {
	Dir       string // made if only its last part is missing
	Cluster   string // name of the cluster
	Socket    string // absolute path
	Observe   string // address and port, or "off"
	Resources []string
	Services  []Service // keys that exist already
	Local     *Local    // a key that is made here
	Need      int       // how many of the keys open; 0 for all of them
}

// Local is a key in a new keystore. With neither file and not unsealed, a random key is drawn into KeyName.
type Local struct {
	PassphraseFile credential.File
	KeyFile        credential.File
	Unsealed       bool
}

// Result is what was written. Paths are absolute; those of files that were not needed are "".
type Result struct {
	Config           string `json:"config"`
	EncryptionConfig string `json:"encryptionConfig"`
	Keystore         string `json:"keystore,omitempty"`
	KeystoreKey      string `json:"keystoreKey,omitempty"` // drawn here; an existing one is not listed
	Unsealed         bool   `json:"unsealed,omitempty"`
	Policy           string `json:"policy,omitempty"`   // "2 of 2: vault, disk"; "" with one key
	StateDir         string `json:"stateDir,omitempty"` // with several keys; it has to be there when the daemon starts
	Socket           string `json:"socket"`
	Lineage          string `json:"lineage"`
}

// ErrExist means that files are there already, which are never overwritten.
var ErrExist = errors.New("there already")

// Write sets everything up.
func Write(o Options) (Result, error) {
	result, err := write(o)
	if err != nil {
		return Result{}, fmt.Errorf("setting up %s: %w", o.Dir, err)
	}
	return result, nil
}

func write(o Options) (Result, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Result{}, err
	}
	lineage := make([]byte, 16)
	rand.Read(lineage)
	r := Result{
		Config: filepath.Join(dir, ConfigName), EncryptionConfig: filepath.Join(dir, EncryptionName),
		Socket: o.Socket, Lineage: hex.EncodeToString(lineage),
	}
	if o.Local != nil {
		r.Keystore, r.Unsealed = filepath.Join(dir, KeystoreName), o.Local.Unsealed
		if o.Local.drawsKey() {
			r.KeystoreKey = filepath.Join(dir, KeyName)
		}
	}
	if keys := o.keyNames(); len(keys) > 1 || o.Need > 1 {
		o.Need = cmp.Or(o.Need, len(keys))
		r.Policy = fmt.Sprintf("%d of %d: %s", o.Need, len(keys), strings.Join(keys, ", "))
		r.StateDir = StateDir(dir)
	}
	if err := r.free(); err != nil {
		return Result{}, err
	}
	text := daemonConfig(o, r)
	if _, err := config.Parse(r.Config, text); err != nil {
		return Result{}, err
	}
	encryption, err := encconfig.Generate(encconfig.Options{Socket: o.Socket, Resources: o.Resources})
	if err != nil {
		return Result{}, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return Result{}, err
	}
	return r, writeAll(o.Local, r, text, encryption)
}

// keyNames returns the names of the keys in the configuration. A second key in one key service is numbered.
func (o Options) keyNames() (names []string) {
	count := make(map[string]int)
	for _, s := range o.Services {
		if count[s.Name]++; count[s.Name] == 1 {
			names = append(names, s.Name)
		} else {
			names = append(names, fmt.Sprintf("%s-%d", s.Name, count[s.Name]))
		}
	}
	if o.Local != nil {
		names = append(names, localName)
	}
	return names
}

// StateDir returns where the daemon keeps its state if its configuration is in dir: on a disk, because a directory under /run is
// empty after a reboot.
func StateDir(dir string) string {
	if dir == "/etc" || strings.HasPrefix(dir, "/etc/") {
		return "/var/lib/trousseau"
	}
	return dir
}

func (l *Local) drawsKey() bool { return !l.Unsealed && l.PassphraseFile == "" && l.KeyFile == "" }

// free complains of all files that are in the way at once.
func (r Result) free() error {
	var taken []string
	for _, path := range []string{r.Config, r.EncryptionConfig, r.Keystore, r.KeystoreKey} {
		if path == "" {
			continue
		}
		if _, err := os.Lstat(path); err == nil {
			taken = append(taken, path)
		}
	}
	if taken != nil {
		return fmt.Errorf("%w: %s", ErrExist, strings.Join(taken, ", "))
	}
	return nil
}

// writeAll writes the files, and removes those that it has written if one fails. The keystore comes first because it is
// what can fail for reasons of its own.
func writeAll(local *Local, r Result, daemon, encryption []byte) (err error) {
	var written []string
	defer func() {
		if err != nil {
			for _, path := range written {
				os.Remove(path)
			}
		}
	}()
	create := func(path string, content []byte) error {
		if err := writeNew(path, content); err != nil {
			return err
		}
		written = append(written, path)
		return nil
	}
	if local != nil {
		if r.KeystoreKey != "" {
			if err := create(r.KeystoreKey, drawKey()); err != nil {
				return err
			}
		}
		if err := createKeystore(*local, r); err != nil {
			return err
		}
		written = append(written, r.Keystore)
	}
	if err := create(r.Config, daemon); err != nil {
		return err
	}
	return create(r.EncryptionConfig, encryption)
}

// drawKey returns 32 random bytes in base64, with a final newline, as docs/keyservices/local.md makes them.
func drawKey() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return fmt.Appendf(nil, "%s\n", base64.StdEncoding.EncodeToString(key))
}

func createKeystore(l Local, r Result) error {
	sealer := keystore.Unsealed()
	file := l.KeyFile
	if l.drawsKey() {
		file = credential.File(r.KeystoreKey)
	}
	if l.PassphraseFile != "" {
		file = l.PassphraseFile
	}
	if !l.Unsealed {
		secret, err := file.Read()
		if err != nil {
			return err
		}
		defer secret.Wipe()
		sealer = keystore.Key(secret)
		if l.PassphraseFile != "" {
			sealer = keystore.Passphrase(secret)
		}
	}
	_, err := keystore.Create(r.Keystore, sealer)
	return err
}

// writeNew writes a file that nobody but its owner reads, and flushes it to disk.
func writeNew(path string, content []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(path)
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

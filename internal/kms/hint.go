package kms

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Hint is a file that remembers the versions announced last. It is read only at the start, and only for keys that are silent:
// without it a daemon that starts while one key service is away could not name the key id that it announced before. It
// holds nothing secret, and nothing depends on it while every key answers. The zero Hint remembers nothing.
type Hint struct {
	Path string
}

// hinted is the content of the file.
type hinted struct {
	Policy   string                          `json:"policy"` // its hash: versions of another policy say nothing
	Versions map[string]keyservice.VersionID `json:"versions"`
}

// load returns the versions by key id; nothing if there are none to trust.
func (h Hint) load(policy *envelope.Policy) map[string]keyservice.VersionID {
	if h.Path == "" {
		return nil
	}
	data, err := os.ReadFile(h.Path)
	if err != nil {
		return nil
	}
	var last hinted
	if json.Unmarshal(data, &last) != nil || last.Policy != fmt.Sprintf("%x", policy.Hash()) {
		return nil
	}
	return last.Versions
}

// save replaces the file. It is no reason to stop if that fails.
func (h Hint) save(policy *envelope.Policy, versions []keyservice.VersionID, log *slog.Logger) {
	if h.Path == "" {
		return
	}
	last := hinted{Policy: fmt.Sprintf("%x", policy.Hash()), Versions: make(map[string]keyservice.VersionID)}
	for slot, m := range policy.Members() {
		if versions[slot] != "" {
			last.Versions[m.ID] = versions[slot]
		}
	}
	data, err := json.Marshal(last)
	if err == nil {
		err = replace(h.Path, data)
	}
	if err != nil {
		log.Warn("the announced versions cannot be noted: a restart while a key is silent will not know them", "error", err)
	}
}

func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

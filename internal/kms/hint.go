package kms

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/trousseau-io/trousseau/internal/durable"
	"github.com/trousseau-io/trousseau/internal/envelope"
	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// Hint is a file that remembers the versions announced last. It is read only at the start, and only for keys that do not work:
// without it a daemon that starts while one key service is away could not name the key id that it announced before. It
// holds nothing secret, and nothing depends on it while every key answers. The zero Hint remembers nothing.
type Hint struct {
	Path string
}

// hinted is the content of the file.
type hinted struct {
	Policy   string                          `json:"policy"` // its hash: versions of another policy say nothing
	At       time.Time                       `json:"at"`     // when they were announced for certain
	Versions map[string]keyservice.VersionID `json:"versions"`
}

// load returns the versions by key id, and when they were noted; nothing if there are none to trust.
func (h Hint) load(policy *envelope.Policy) (versions map[string]keyservice.VersionID, noted time.Time) {
	if h.Path == "" {
		return nil, time.Time{}
	}
	data, err := os.ReadFile(h.Path)
	if err != nil {
		return nil, time.Time{}
	}
	var last hinted
	if json.Unmarshal(data, &last) != nil || last.Policy != fmt.Sprintf("%x", policy.Hash()) {
		return nil, time.Time{}
	}
	return last.Versions, last.At
}

// save replaces the file. It is no reason to stop if that fails.
func (h Hint) save(policy *envelope.Policy, versions []keyservice.VersionID, log *slog.Logger) {
	if h.Path == "" {
		return
	}
	last := hinted{Policy: fmt.Sprintf("%x", policy.Hash()), At: time.Now(), Versions: make(map[string]keyservice.VersionID)}
	for slot, m := range policy.Members() {
		if versions[slot] != "" {
			last.Versions[m.ID] = versions[slot]
		}
	}
	data, err := json.Marshal(last)
	if err == nil {
		err = durable.Replace(h.Path, data)
	}
	if err != nil {
		log.Warn("the announced versions cannot be noted: a restart while a key is silent will not know them", "error", err)
	}
}

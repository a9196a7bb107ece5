package local

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keystore"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// Inspect looks at the keystore in use, the file it came from and the files around it.
func (k *Key) Inspect(ctx context.Context) ([]finding.Finding, error) {
	const op = "inspecting"
	if err := k.refresh(ctx); err != nil {
		return nil, k.source.fail(op, err)
	}
	k.mu.RLock()
	if k.store == nil {
		k.mu.RUnlock()
		return nil, k.source.fail(op, errClosed)
	}
	summary, protection, rejected := k.store.Summary(), k.store.Protection(), k.rejected.err
	k.mu.RUnlock()

	var found []finding.Finding
	for _, look := range []func() (finding.Finding, bool){
		func() (finding.Finding, bool) { return lookAtFile(rejected) },
		func() (finding.Finding, bool) { return lookAtSealing(summary) },
		k.lookAtDirectory,
		k.lookAtSecretFile,
		func() (finding.Finding, bool) { return lookAtMemory(protection) },
		func() (finding.Finding, bool) { return k.copies(summary), true },
	} {
		if f, ok := look(); ok {
			f.Where = k.source.Keystore
			found = append(found, f)
		}
	}
	return found, nil
}

func lookAtFile(rejected error) (finding.Finding, bool) {
	if rejected == nil {
		return finding.Finding{}, false
	}
	return finding.Finding{
		Rule: "keystore-unusable", Severity: finding.Error,
		What: fmt.Sprintf("the file cannot be used, and what was read before still is: %v", rejected),
		Fix:  "put the right file or the right secret back: a daemon that restarts before that does not open it",
	}, true
}

func lookAtSealing(s keystore.Summary) (finding.Finding, bool) {
	switch {
	case s.Sealing == keystore.SealingNone:
		return finding.Finding{
			Rule: "keystore-unsealed", Severity: finding.Error,
			What: "the keystore is not sealed: whoever copies the file has every key in it",
			Fix:  "seal a copy with `trousseau keystore backup`, use that instead, rotate and re-encrypt",
		}, true
	case s.Sealing == keystore.SealingPassphrase && s.Cost.Weak():
		return finding.Finding{
			Rule: "keystore-cheap-passphrase", Severity: finding.Warning,
			What: fmt.Sprintf("a guess of the passphrase costs less than in a new keystore: argon2id with %s", s.Cost),
			Fix:  "write it anew with `trousseau keystore backup` and put that in its place",
		}, true
	}
	return finding.Finding{}, false
}

// lookAtDirectory finds who could put another file in the keystore's place. In a directory with the sticky bit only
// owners replace files.
func (k *Key) lookAtDirectory() (finding.Finding, bool) {
	dir := filepath.Dir(k.source.Keystore)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o022 == 0 || info.Mode()&fs.ModeSticky != 0 {
		return finding.Finding{}, false
	}
	return finding.Finding{
		Rule: "keystore-directory-writable", Severity: finding.Warning,
		What: fmt.Sprintf("more than its owner can write to %s (mode %#o) and so remove or replace the keystore",
			dir, info.Mode().Perm()),
		Fix: "chmod 0700 " + dir,
	}, true
}

// lookAtSecretFile finds a secret that is stolen together with the keystore.
func (k *Key) lookAtSecretFile() (finding.Finding, bool) {
	file, ok := k.source.Secret.(secretFile)
	if !ok || filepath.Dir(string(file.File)) != filepath.Dir(k.source.Keystore) {
		return finding.Finding{}, false
	}
	return finding.Finding{
		Rule: "keystore-secret-beside", Severity: finding.Warning,
		What: fmt.Sprintf("%s lies in the directory of the keystore: whoever copies one has both", file.File),
		Fix:  "keep it on another device, or as an encrypted systemd credential (systemd-creds encrypt)",
	}, true
}

func lookAtMemory(p secretmem.Protection) (finding.Finding, bool) {
	if p.Advice() == "" {
		return finding.Finding{}, false
	}
	return finding.Finding{
		Rule: "keystore-memory", Severity: finding.Warning,
		What: fmt.Sprintf("the keys are poorly protected in memory: %s", p), Fix: p.Advice(),
	}, true
}

func (k *Key) copies(s keystore.Summary) finding.Finding {
	newest, _ := s.Newest()
	return finding.Finding{
		Rule: "keystore-copies", Severity: finding.Info,
		What: fmt.Sprintf("%d version(s), the newest, %s, of %s; only copies of this file open what they wrapped",
			s.Count, newest.ID, newest.Created.Format(time.RFC3339)),
		Fix: "keep a backup of the newest file outside of the cluster: see docs/keyservices/" + k.source.Name + ".md",
	}
}

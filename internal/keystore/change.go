package keystore

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// Create writes a new keystore with one version and returns that. It never overwrites a file: the error is fs.ErrExist
// then.
func Create(path string, sealer Sealer) (keyservice.Version, error) {
	v, err := create(path, sealer)
	if err != nil {
		return keyservice.Version{}, fmt.Errorf("creating keystore %q: %w", path, err)
	}
	return v, nil
}

func create(path string, sealer Sealer) (keyservice.Version, error) {
	records, err := appended(nil, time.Now())
	if err != nil {
		return keyservice.Version{}, err
	}
	defer records.Release()
	if err := writeNew(path, records, sealer); err != nil {
		return keyservice.Version{}, err
	}
	return newest(records)
}

// Rotate adds a version, which becomes the newest, and returns it. Its time of creation is delay from now, from when on
// it may be used: time to carry the file to all nodes before any of them does. The file keeps its owner, its
// mode and what argon2id costs. While the newest version still lies in the future, Rotate returns ErrPending: nodes tell
// the newest version and the one before it, and one of these must be the one in use.
func Rotate(path string, sealer Sealer, delay time.Duration) (keyservice.Version, error) {
	v, err := rotate(path, sealer, delay)
	if err != nil {
		return keyservice.Version{}, fmt.Errorf("rotating keystore %q: %w", path, err)
	}
	return v, nil
}

func rotate(path string, sealer Sealer, delay time.Duration) (keyservice.Version, error) {
	if delay < 0 {
		return keyservice.Version{}, fmt.Errorf("a version cannot be used %s before it was made", -delay)
	}
	path, err := filepath.EvalSymlinks(path) // replacing a link would leave its target as it was
	if err != nil {
		return keyservice.Version{}, err
	}
	unlock, err := lock(filepath.Dir(path))
	if err != nil {
		return keyservice.Version{}, err
	}
	defer unlock()
	store, err := open(path, sealer)
	if err != nil {
		return keyservice.Version{}, err
	}
	defer store.Release()
	now := time.Now()
	last, _ := store.summary.Newest()
	switch {
	case last.Created.After(now):
		return keyservice.Version{}, fmt.Errorf("%w: version %s is for %s",
			ErrPending, last.ID, last.Created.Format(time.RFC3339))
	case store.summary.Count == maxVersions:
		return keyservice.Version{}, fmt.Errorf("it holds %d versions, the most it can", maxVersions)
	}
	records, err := appended(store.records, now.Add(delay))
	if err != nil {
		return keyservice.Version{}, err
	}
	defer records.Release()
	sealer.cost = store.summary.Cost
	if err := replace(path, records, sealer); err != nil {
		return keyservice.Version{}, err
	}
	return newest(records)
}

// Backup writes the same versions to a new file, sealed by to, which may be the same Sealer or another: backing up is
// also the way to change a passphrase. It opens what it wrote before it returns. It never overwrites a file, and never
// writes the keys of a sealed keystore unsealed.
func Backup(path string, from Sealer, backup string, to Sealer) (Summary, error) {
	summary, err := back(path, from, backup, to)
	if err != nil {
		return Summary{}, fmt.Errorf("backing up keystore %q to %q: %w", path, backup, err)
	}
	return summary, nil
}

func back(path string, from Sealer, backup string, to Sealer) (Summary, error) {
	store, err := open(path, from)
	if err != nil {
		return Summary{}, err
	}
	defer store.Release()
	if to.sealing == SealingNone && store.summary.Sealing != SealingNone {
		return Summary{}, fmt.Errorf("%w: a sealed keystore is not backed up unsealed", ErrSealing)
	}
	if err := writeNew(backup, store.records, to); err != nil {
		return Summary{}, err
	}
	summary, err := Verify(backup, to)
	if err != nil {
		return Summary{}, err
	}
	if !slices.Equal(summary.Versions, store.summary.Versions) {
		return Summary{}, fmt.Errorf("%w: it reads back other than it was written", ErrDamaged)
	}
	return summary, nil
}

// newest returns the last of the versions in records that this package made itself.
func newest(records *secretmem.Buffer) (v keyservice.Version, err error) {
	err = records.Use(func(b []byte) error {
		v, err = version(record(b, len(b)/recordSize-1))
		return err
	})
	return v, err
}

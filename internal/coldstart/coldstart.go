// Package coldstart keeps on a node's disk the little that lets an API server start while too few key services answer: one
// spare root, which the sealing policy's keys have wrapped, and if asked for the seeds that were opened lately.
//
// It promises that both files are sealed by a key of the node's own (a keystore or a TPM), that they end after a while, that
// a spare root is off the disk before it is handed out, so that it is used once, and that seeds lie in secret memory. It
// does not decide when to use them, and does not defend against who has the files and the key that seals them, or who
// puts back a copy of the whole disk.
package coldstart

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/durable"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/seedstore"
)

// Names of the files in Config.Dir.
const (
	SpareName = "coldstart.spare"
	SeedsName = "coldstart.seeds"
)

// ErrNone says that no spare root is kept, or that its time is over.
var ErrNone = errors.New("no spare root")

// Config says what to keep, and where.
type Config struct {
	Dir     string         // exists, and outlives a reboot
	Key     keyservice.Key // seals the files, without a network
	Cluster string         // bound into them
	Life    time.Duration  // of a spare root, and of a seed since it was opened last
	Seeds   int            // how many are kept; 0 means none
}

// Store is what is kept. Its methods may be called concurrently.
type Store struct {
	Config
	seeds *seedstore.Store // nil if none are kept

	mu      sync.Mutex // one change of the files at a time
	written uint64     // seeds.Changes when the file was written
}

// Open returns the Store of a folder. What it held and cannot be used any more is removed, and log told.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Store, error) {
	s := &Store{Config: c}
	if c.Seeds == 0 {
		return s, durable.Remove(s.path(SeedsName))
	}
	seeds, err := seedstore.New(c.Seeds, c.Life)
	if err != nil {
		return nil, err
	}
	s.seeds = seeds
	if err := s.load(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("kept seeds cannot be used, and are removed", "file", s.path(SeedsName), "error", err)
		return s, durable.Remove(s.path(SeedsName))
	}
	return s, nil
}

// Remove removes what a Store has kept in dir.
func Remove(dir string) error {
	return errors.Join(durable.Remove(filepath.Join(dir, SpareName)), durable.Remove(filepath.Join(dir, SeedsName)))
}

func (s *Store) path(name string) string { return filepath.Join(s.Dir, name) }

// Spare returns the key id that the spare root was prepared under, and when its time is over; "" if there is none. It does
// not open the file.
func (s *Store) Spare() (keyID string, until time.Time) {
	f, err := s.read(SpareName)
	if err != nil || !time.Now().Before(f.until) {
		return "", time.Time{}
	}
	return f.label, f.until
}

// KeepSpare puts a spare root, prepared under the key id, in the place of the one before, and wipes it.
func (s *Store) KeepSpare(ctx context.Context, keyID string, spare []byte) error {
	defer clear(spare)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(ctx, SpareName, keyID, time.Now().Add(s.Life), spare)
}

// TakeSpare returns the spare root, which the caller wipes, once it is off the disk. Without one the error is ErrNone.
func (s *Store) TakeSpare(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.read(SpareName)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !time.Now().Before(f.until) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, err
	}
	spare, err := f.open(ctx, s.Key, s.Cluster)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", s.path(SpareName), err)
	}
	if err := durable.Remove(s.path(SpareName)); err != nil {
		clear(spare)
		return nil, fmt.Errorf("a spare root that cannot be removed must not be used: %w", err)
	}
	return spare, nil
}

// KeepSeed keeps a copy of a seed, if seeds are kept. It is on the disk after the next Flush.
func (s *Store) KeepSeed(id seedstore.ID, seed []byte) {
	if s.seeds != nil {
		s.seeds.Put(id, seed)
	}
}

// Seed returns a copy of a kept seed, which the caller wipes, or nil.
func (s *Store) Seed(id seedstore.ID) []byte {
	if s.seeds == nil {
		return nil
	}
	return s.seeds.Get(id)
}

// Inherit keeps what older keeps of seeds.
func (s *Store) Inherit(older *Store) {
	if s.seeds == nil || older.seeds == nil {
		return
	}
	for _, kept := range older.seeds.All() {
		s.seeds.Restore(kept)
		clear(kept.Seed)
	}
}

// Flush writes the seeds to the disk if they have changed, and removes what has ended.
func (s *Store) Flush(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.read(SpareName)
	if err == nil && !time.Now().Before(f.until) {
		err = durable.Remove(s.path(SpareName))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, s.flushSeeds(ctx))
}

func (s *Store) flushSeeds(ctx context.Context) error {
	if s.seeds == nil {
		return nil
	}
	changes := s.seeds.Changes()
	if changes == s.written {
		return nil
	}
	if err := s.save(ctx); err != nil {
		return err
	}
	s.written = changes
	return nil
}

// Forget wipes and removes everything.
func (s *Store) Forget() error {
	if s.seeds != nil {
		s.seeds.Forget()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return Remove(s.Dir)
}

// Close wipes what is in memory. The files stay.
func (s *Store) Close() {
	if s.seeds != nil {
		s.seeds.Close()
	}
}

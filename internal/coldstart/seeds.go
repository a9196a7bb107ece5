package coldstart

import (
	"context"
	"errors"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/trousseau-io/trousseau/internal/durable"
	"github.com/trousseau-io/trousseau/internal/seedstore"
)

// The content of the file of seeds is, for each: id 32 ‖ end 8 ‖ length 1, seed.

// save writes all seeds, or removes the file if there are none.
func (s *Store) save(ctx context.Context) error {
	all := s.seeds.All()
	if len(all) == 0 {
		return durable.Remove(s.path(SeedsName))
	}
	content := make([]byte, 0, len(all)*(len(seedstore.ID{})+9+seedstore.MaxSeed)) // it must not move: what it leaves is not wiped
	defer func() { clear(content) }()
	b := cryptobyte.NewBuilder(content)
	for _, kept := range all {
		b.AddBytes(kept.ID[:])
		b.AddUint64(uint64(kept.Until.Unix()))
		b.AddUint8(uint8(len(kept.Seed)))
		b.AddBytes(kept.Seed)
		clear(kept.Seed)
	}
	content, err := b.Bytes()
	if err != nil {
		return err
	}
	return s.write(ctx, SeedsName, "", all[len(all)-1].Until, content)
}

// load restores what save wrote.
func (s *Store) load(ctx context.Context) error {
	f, err := s.read(SeedsName)
	if err != nil {
		return err
	}
	content, err := f.open(ctx, s.Key, s.Cluster)
	if err != nil {
		return err
	}
	defer clear(content)
	for in := cryptobyte.String(content); !in.Empty(); {
		var (
			kept  seedstore.Kept
			until uint64
			seed  cryptobyte.String
		)
		if !in.CopyBytes(kept.ID[:]) || !in.ReadUint64(&until) || !in.ReadUint8LengthPrefixed(&seed) {
			return errors.New("its content is cut")
		}
		kept.Until, kept.Seed = time.Unix(int64(until), 0), seed
		s.seeds.Restore(kept)
	}
	return nil
}

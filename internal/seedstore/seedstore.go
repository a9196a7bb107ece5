// Package seedstore keeps seeds for a while, each by the hash of the request that opens it.
//
// It promises that their bytes lie in secret memory alone, that no more of them are kept than there are places, and none for
// longer than its life: what is too old is wiped by a timer, whether anybody asks or not. It does not know what opens what.
package seedstore

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// MaxSeed is the size in bytes of the largest seed that is kept. An API server's have 32.
const MaxSeed = 64

// ID stands for the request that opens a seed.
type ID [sha256.Size]byte

// Store keeps seeds. Its methods may be called concurrently.
type Store struct {
	life   time.Duration
	memory *secretmem.Buffer // MaxSeed bytes for each place

	mu      sync.Mutex // guards the following
	places  []place
	at      map[ID]int
	sweep   *time.Timer // nil while nothing is kept
	changes uint64
}

// place is the life of one seed. The zero place is free.
type place struct {
	id    ID
	size  int
	until time.Time
}

// Kept is a seed with its end.
type Kept struct {
	ID    ID
	Until time.Time
	Seed  []byte // the caller wipes it
}

// New returns a Store of so many places, at least one, that keeps each seed for life.
func New(places int, life time.Duration) (*Store, error) {
	memory, err := secretmem.New(places * MaxSeed)
	if err != nil {
		return nil, err
	}
	return &Store{life: life, memory: memory, places: make([]place, places), at: make(map[ID]int, places)}, nil
}

// Put keeps a copy of seed from now on for the Store's life, in the place of the one that would end first if all are taken.
// A seed that is too long is not kept.
func (s *Store) Put(id ID, seed []byte) { s.Restore(Kept{id, time.Now().Add(s.life), seed}) }

// Restore keeps a copy of a seed until its end.
func (s *Store) Restore(k Kept) {
	if len(k.Seed) == 0 || len(k.Seed) > MaxSeed || !time.Now().Before(k.Until) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	index, known := s.at[k.ID]
	if !known {
		index = s.firstToEnd()
		s.free(index)
	}
	if s.memory.Use(func(memory []byte) error { copy(slot(memory, index), k.Seed); return nil }) != nil {
		return // it was closed
	}
	s.changes++
	s.places[index] = place{k.ID, len(k.Seed), k.Until}
	s.at[k.ID] = index
	if s.sweep == nil {
		s.sweep = time.AfterFunc(time.Until(k.Until), s.expire)
	}
}

func slot(memory []byte, index int) []byte { return memory[index*MaxSeed : (index+1)*MaxSeed] }

// firstToEnd returns a free place, or else the one that ends first.
func (s *Store) firstToEnd() int {
	first := 0
	for i, p := range s.places {
		if p.until.Before(s.places[first].until) {
			first = i
		}
	}
	return first
}

// free wipes a place.
func (s *Store) free(index int) {
	if s.places[index].size == 0 {
		return
	}
	_ = s.memory.Use(func(memory []byte) error { clear(slot(memory, index)); return nil }) // released memory is wiped
	s.changes++
	delete(s.at, s.places[index].id)
	s.places[index] = place{}
}

// expire frees what has ended, and waits for what ends next.
func (s *Store) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep = nil
	now, next := time.Now(), time.Time{}
	for i, p := range s.places {
		switch {
		case p.size == 0:
		case !now.Before(p.until):
			s.free(i)
		case next.IsZero() || p.until.Before(next):
			next = p.until
		}
	}
	if !next.IsZero() {
		s.sweep = time.AfterFunc(next.Sub(now), s.expire)
	}
}

// Get returns a copy of a seed, which the caller wipes, or nil if it is not kept.
func (s *Store) Get(id ID) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	index, known := s.at[id]
	if !known || !time.Now().Before(s.places[index].until) {
		return nil
	}
	return s.copyOf(index)
}

func (s *Store) copyOf(index int) (seed []byte) {
	_ = s.memory.Use(func(memory []byte) error {
		seed = bytes.Clone(slot(memory, index)[:s.places[index].size])
		return nil
	})
	return seed
}

// All returns copies of all seeds, which the caller wipes.
func (s *Store) All() []Kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Kept
	for i, p := range s.places {
		if p.size > 0 && time.Now().Before(p.until) {
			all = append(all, Kept{p.id, p.until, s.copyOf(i)})
		}
	}
	slices.SortFunc(all, func(a, b Kept) int { return a.Until.Compare(b.Until) })
	return all
}

// Changes returns a number that grows whenever something is kept or wiped.
func (s *Store) Changes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

// Forget wipes all seeds.
func (s *Store) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.places {
		s.free(i)
	}
	if s.sweep != nil {
		s.sweep.Stop()
		s.sweep = nil
	}
}

// Close wipes all seeds and gives the memory back. A closed Store keeps nothing.
func (s *Store) Close() {
	s.Forget()
	s.memory.Release()
}

// Package secretmem is memory that a dump does not hold.
//
// A Buffer lies outside the Go heap, in pages that the kernel hides from everybody else (memfd_secret), or else keeps out of
// swap and core dumps; it is zeroed before its pages are given back. That holds for the bytes in the Buffer. It does not
// hold for copies: what a caller copies out, what cryptography derives from it and what the stack keeps is ordinary memory,
// for which Wipe and Do do what Go allows. Nothing here protects from who runs code inside the process.
package secretmem

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// ErrReleased is returned by Use once a Buffer was released.
var ErrReleased = errors.New("secret memory was released")

// Buffer is a fixed number of secret bytes. Its methods may be called concurrently.
//
// The bytes can be reached in Use alone: a slice that left it could be read after Release, which would crash the process.
type Buffer struct {
	mu         sync.RWMutex // Use holds it for reading; Release, which unmaps the pages, for writing
	at         *place
	size       int
	protection Protection
}

// place keeps the bytes two pointers away from a Buffer, out of the sight of package fmt, which prints the unexported
// fields of an enclosing struct without calling their methods.
type place struct{ pages []byte }

// New returns a zeroed Buffer of size bytes. It occupies whole pages, so that many secrets of one owner belong in one
// Buffer. New takes the best protection that the system gives and does not fail for want of a better one: a small
// container with RLIMIT_MEMLOCK of zero still has to read its key. Protection says what was got; callers report it.
func New(size int) (*Buffer, error) {
	if size <= 0 {
		return nil, fmt.Errorf("allocating secret memory: size %d is not positive", size)
	}
	pages, protection, err := allocate(size)
	if err != nil {
		return nil, fmt.Errorf("allocating secret memory: %w", err)
	}
	return &Buffer{at: &place{pages}, size: size, protection: protection}, nil
}

// From returns a Buffer with the content of b, and wipes b, also when it fails.
func From(b []byte) (*Buffer, error) {
	defer Wipe(b)
	buffer, err := New(len(b))
	if err != nil {
		return nil, err
	}
	copy(buffer.at.pages, b)
	return buffer, nil
}

// Use calls f with the bytes, which f may read and write and must not keep, and returns f's error. A Buffer in use is
// not released. f must not call methods of the same Buffer: Release would wait for itself. After Release, Use returns
// ErrReleased and does not call f.
func (b *Buffer) Use(f func(secret []byte) error) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.at == nil {
		return ErrReleased
	}
	return f(b.at.pages[:b.size:b.size])
}

// Release waits until no Use is under way, zeroes the bytes and gives the pages back. Further calls do nothing.
func (b *Buffer) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == nil {
		return
	}
	Wipe(b.at.pages)
	free(b.at.pages)
	b.at = nil
}

// Size returns the number of bytes, also after Release.
func (b *Buffer) Size() int { return b.size }

// Protection returns what keeps the bytes out of a dump.
func (b *Buffer) Protection() Protection { return b.protection }

const redacted = "redacted"

// String returns "redacted".
func (*Buffer) String() string { return redacted }

// Format writes "redacted" for every verb and flag.
func (*Buffer) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// MarshalText returns "redacted".
func (*Buffer) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "redacted".
func (*Buffer) LogValue() slog.Value { return slog.StringValue(redacted) }

package keystore

import (
	"fmt"
	"runtime/debug"

	"golang.org/x/crypto/argon2"
)

// Cost is what argon2id spends on one try of a passphrase; see RFC 9106.
type Cost struct {
	MemoryKiB uint32
	Passes    uint8
	Lanes     uint8
}

// DefaultCost returns what new files cost: the second recommended option of RFC 9106, section 4, which fits small machines.
// It takes 64 MiB and about a fifth of a second.
func DefaultCost() Cost { return Cost{MemoryKiB: 64 << 10, Passes: 3, Lanes: 4} }

// Limits of what a file may ask for. They keep a forged file from taking the memory of the node, or minutes.
const (
	maxMemoryKiB = 256 << 10
	maxPasses    = 16
	maxLanes     = 16
)

func (c Cost) check() error {
	if c.Passes < 1 || c.Passes > maxPasses || c.Lanes < 1 || c.Lanes > maxLanes ||
		c.MemoryKiB < 8*uint32(c.Lanes) || c.MemoryKiB > maxMemoryKiB {
		return fmt.Errorf("argon2id with %s is out of bounds (%d MiB, %d passes, %d lanes)",
			c, maxMemoryKiB>>10, maxPasses, maxLanes)
	}
	return nil
}

// Weak reports whether a try costs less than it would in a file that was sealed now.
func (c Cost) Weak() bool {
	now := DefaultCost()
	return uint64(c.MemoryKiB)*uint64(c.Passes) < uint64(now.MemoryKiB)*uint64(now.Passes)
}

func (c Cost) String() string {
	return fmt.Sprintf("%d KiB, %d passes, %d lanes", c.MemoryKiB, c.Passes, c.Lanes)
}

func (c Cost) derive(passphrase, salt []byte) []byte {
	return argon2.IDKey(passphrase, salt, uint32(c.Passes), c.MemoryKiB, c.Lanes, keySize)
}

// giveBack returns the memory of argon2id to the system at once. That is also what erases it: the blocks lead to the
// sealing key, and the runtime would keep them for minutes. It collects garbage, which takes milliseconds and happens
// once per opened file.
func giveBack() { debug.FreeOSMemory() }

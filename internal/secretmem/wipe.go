package secretmem

import "runtime"

// Wipe zeroes b. The compiler may drop stores to memory that nobody reads again; it drops none in a function that it
// cannot look into, of memory that is still referred to afterwards.
//
//go:noinline
func Wipe(b []byte) {
	clear(b)
	runtime.KeepAlive(b)
}

//go:build goexperiment.runtimesecret

package secretmem

import "runtime/secret"

// Erases reports whether Do erases what its function leaves behind. It depends on how the program was built.
const Erases = true

// Do calls f and erases the registers and the stack that f used before it returns, and the heap memory that f allocated
// as soon as the garbage collector finds it unreachable. Programs built without GOEXPERIMENT=runtimesecret, or for other
// systems than linux/amd64 and linux/arm64, only call f. Goroutines that f starts are not covered.
func Do(f func()) { secret.Do(f) }

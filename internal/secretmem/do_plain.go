//go:build !goexperiment.runtimesecret

package secretmem

// Erases reports whether Do erases what its function leaves behind. It depends on how the program was built.
const Erases = false

// Do calls f: this program was built without GOEXPERIMENT=runtimesecret, with which Do would erase what f leaves behind.
func Do(f func()) { f() }

//go:build !linux

package secretmem

// allocate returns ordinary memory: the daemon runs on Linux, and elsewhere the tool is enough.
func allocate(size int) ([]byte, Protection, error) { return make([]byte, size), Ordinary, nil }

func free([]byte) {}

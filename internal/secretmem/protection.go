package secretmem

// Protection says what keeps the bytes of a Buffer out of a dump, from the weakest to the strongest.
type Protection uint8

const (
	// Ordinary memory may be swapped, and core dumps hold it. Only systems other than Linux, and Linux sandboxes
	// without madvise(2), give no better.
	Ordinary Protection = iota
	// Excluded pages are in no core dump, and may be swapped: RLIMIT_MEMLOCK is too small to lock them.
	Excluded
	// Locked pages are in no core dump and are never swapped. Root can read them through /proc/PID/mem.
	Locked
	// Hidden pages come from memfd_secret(2): the kernel itself has no mapping of them, so that neither core dumps,
	// debuggers nor /proc/PID/mem hold them. They are never swapped, and prevent hibernation.
	Hidden
)

// String names the mechanism.
func (p Protection) String() string {
	switch p {
	case Excluded:
		return "excluded from core dumps, not locked"
	case Locked:
		return "mlock"
	case Hidden:
		return "memfd_secret"
	}
	return "none"
}

// Advice returns what an operator can do to get a better protection, or "" where nothing is wrong.
func (p Protection) Advice() string {
	switch p {
	case Ordinary:
		return "run on Linux, where secrets can be kept out of swap and core dumps"
	case Excluded:
		return "raise RLIMIT_MEMLOCK to 1 MiB or more (LimitMEMLOCK=1M in the unit; ulimit -l), or switch swap off"
	}
	return ""
}

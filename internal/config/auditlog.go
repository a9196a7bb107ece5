package config

// AuditLog is a file with a line for each wrap, each open, each caller that was turned away, and each change of the key id, the
// configuration or the lock. It holds no secret. Its lines are chained by keys that are wiped once they are used, so that
// `trousseau audit-log verify` finds what was changed, removed or cut off. A line is on the disk before its call is answered:
// that adds the time of one write to the disk to each wrap and open, and calls that wait at the same time share it.
type AuditLog struct {
	// The absolute path of the file; without one there is no audit log. Its directory must exist and be the daemon's own.
	// The keys are in a second file of that name with .state at the end, which only the daemon's user can read. Give each
	// daemon a file of its own, on a local disk.
	File string `yaml:"file,omitempty" pattern:"^/([^\\x00]*[^/\\x00])?$" says:"an absolute path of a file"`

	// What to do with a wrap or an open whose line cannot be written, because the disk is full or read-only. `block`
	// refuses it: nothing is opened without a trace, and API servers that start meanwhile wait. `continue` answers it, counts
	// it, and says in the next line that can be written how many are missing. The status is answered in both cases.
	WhenFull WhenFull `yaml:"whenFull" enum:"block,continue" default:"block"`

	// The size in MiB, from 1 to 1024, at which the file is put aside and another one is begun. A line takes about 300 bytes.
	MaxMiB int `yaml:"maxMiB" default:"64" min:"1" max:"1024"`

	// How many files that were put aside are kept, from 1 to 1000. The oldest is removed when there are more, and the log
	// says which lines were in it.
	Keep int `yaml:"keep" default:"8" min:"1" max:"1000"`
}

// WhenFull is what to do with a call whose line cannot be written.
type WhenFull string

const (
	Block    WhenFull = "block"    // it is refused
	Continue WhenFull = "continue" // it is answered
)

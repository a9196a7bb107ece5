// Package finding is what a look at something has found: one shape for lint, check and audit, and for their exit codes.
package finding

import (
	"fmt"
	"slices"
)

// Finding is one thing that an operator should know, with what to do about it.
type Finding struct {
	Rule     string   `json:"rule"`            // stable name, such as "credential-world-readable"
	Severity Severity `json:"severity"`        // how bad
	Where    string   `json:"where,omitempty"` // a file, file:line, key or socket
	What     string   `json:"what"`            // what was seen, in a sentence
	Fix      string   `json:"fix,omitempty"`   // the next action; never empty for Warning and Error
}

// Severity orders findings.
type Severity uint8

const (
	// OK says that a look found what it should.
	OK Severity = iota
	// Info is worth knowing and needs no action.
	Info
	// Warning works today and is unwise or about to fail.
	Warning
	// Error does not work, or is not safe.
	Error
)

var severities = [...]string{"ok", "info", "warning", "error"}

func (s Severity) String() string {
	if int(s) < len(severities) {
		return severities[s]
	}
	return fmt.Sprintf("severity(%d)", s)
}

// MarshalText writes the severity's name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Severity) UnmarshalText(text []byte) error {
	i := slices.Index(severities[:], string(text))
	if i < 0 {
		return fmt.Errorf("unknown severity %q", text)
	}
	*s = Severity(i)
	return nil
}

// Worst returns the highest severity of all findings, OK if there are none.
func Worst(findings []Finding) Severity {
	worst := OK
	for _, f := range findings {
		worst = max(worst, f.Severity)
	}
	return worst
}

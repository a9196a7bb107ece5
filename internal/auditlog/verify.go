package auditlog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"

	"github.com/trousseau-io/trousseau/internal/finding"
)

// maxSkip is how many lines may be missing in one place, so that a forged number does not keep Verify busy for ever.
const maxSkip = 1 << 26

// Report is what Verify has found.
type Report struct {
	Files    []string          `json:"files"`    // that were read, in their order
	Lines    uint64            `json:"lines"`    // that were read
	Verified uint64            `json:"verified"` // proven to be what the log wrote there
	First    uint64            `json:"first"`    // number of a line, 0 if there is none
	Last     uint64            `json:"last"`
	Findings []finding.Finding `json:"findings"`
}

// Mark is a head and the name of the file that it comes from.
type Mark struct {
	Name string
	Head Head
}

// Verify reads a log and says what is wrong with it. The paths are those of the current file or of rotated ones, in any order;
// the rotated files beside a current one belong to it. The state file beside them tells where the log must end.
//
// Lines from the first mark on are proven; further marks say what the chain must arrive at. Without marks it can only look
// at the form and the numbers of lines, which anybody could forge. An error says what cannot be read.
func Verify(paths []string, marks []Mark) (Report, error) {
	end, stateName, err := findState(paths)
	if err != nil {
		return Report{}, err
	}
	files, err := findFiles(paths) // after the state: lines that are written meanwhile are beyond it
	if err != nil {
		return Report{}, err
	}
	v := newVerifier(marks, end)
	v.Files = files
	switch {
	case stateName == "":
		v.found(finding.Error, "state-missing", stateOf(paths[0]), "no state file: lines may be cut off at the end",
			"verify it beside its .state file; if that is gone on the machine itself, somebody removed it")
	case end == nil:
		v.found(finding.Error, "state-damaged", stateName, "not the state of an audit log: lines may be cut off at the end",
			"find out who could write to it; the daemon starts another chain when it starts")
	}
	if len(marks) == 0 {
		v.found(finding.Warning, "no-head", files[0], "without a head only the form and the numbers of lines can be looked at, which anybody could forge",
			"export a head to another machine with trousseau audit-log head, and verify with --head")
	}
	for _, file := range files {
		if err := v.file(file); err != nil {
			return Report{}, err
		}
	}
	v.finish()
	return v.Report, nil
}

// findState reads the state beside one of the files. The mark is nil if it cannot be read, the name empty if there is none.
func findState(paths []string) (*Mark, string, error) {
	for _, path := range paths {
		name := stateOf(path)
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		head, err := ParseHead(text)
		if err != nil {
			return nil, name, nil
		}
		return &Mark{name, head}, name, nil
	}
	return nil, "", nil
}

// stateOf returns the name of the state file for a current or rotated file.
func stateOf(path string) string {
	current, _, _ := firstByName(path)
	return current + ".state"
}

// findFiles returns the files of a log in the order of their lines.
func findFiles(paths []string) ([]string, error) {
	first := make(map[string]uint64)
	for _, path := range paths {
		if _, seq, ok := firstByName(path); ok {
			first[path] = seq
			continue
		}
		for _, file := range rotated(path) {
			first[file.path] = file.first
		}
		seq, err := firstSeq(path)
		if err != nil {
			return nil, err
		}
		first[path] = seq
	}
	files := make([]string, 0, len(first))
	for path := range first {
		files = append(files, path)
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Or(cmp.Compare(first[a], first[b]), cmp.Compare(a, b)) })
	return files, nil
}

// firstSeq returns the number of the first line in a file; the highest number if there is no line.
func firstSeq(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	first := uint64(math.MaxUint64)
	err = eachLine(f, func(text []byte, _ bool) {
		if line, err := parseLine(text); err == nil {
			first = min(first, line.Seq)
		}
	})
	return first, err
}

func (v *verifier) found(severity finding.Severity, rule, where, what, fix string) {
	v.Findings = append(v.Findings, finding.Finding{Rule: rule, Severity: severity, Where: where, What: what, Fix: fix})
}

func (v *verifier) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return v.read(path, f)
}

// read looks at the lines of a file. A line is judged when the one after it is known.
func (v *verifier) read(path string, r io.Reader) error {
	n := 0
	return eachLine(r, func(text []byte, whole bool) {
		n++
		where := fmt.Sprintf("%s:%d", path, n)
		if !whole {
			v.torn = where
			return
		}
		v.Lines++
		v.push(where, text)
	})
}

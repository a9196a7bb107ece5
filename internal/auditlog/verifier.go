package auditlog

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/trousseau-io/trousseau/internal/finding"
)

const (
	fixTampered = "take these lines for tampered with: find out who could write to the directory, and compare with copies of the log elsewhere"
	fixHeads    = "use the head that was exported from this log; if it is, lines before it were made by somebody who held an earlier key"
)

// verifier walks along a log with the keys that its lines must have.
type verifier struct {
	Report
	marks []Mark // not reached yet, by their numbers
	end   *Mark  // the state: like a mark, but it proves nothing by itself, because it lies beside the log

	at       Head // of the line that has to come next; its Seq is 0 until there was a line
	headless bool // there are no marks at all
	keyed    bool // at.Key is known
	bound    bool // at.MAC is known
	computed Code // what at.MAC would be if the last line's code was changed, rather than its text
	held     *sighted
	run      run
	damaged  uint64 // lines that could not be read since the last that could
	missing  []span
	removed  uint64 // lines up to this number were removed because of Config.Keep
	torn     string // where a line without an end is
}

// sighted is a line at its place.
type sighted struct {
	line
	where string
	n     uint64 // of all lines that were read
}

// run is a finding about lines that follow one another.
type run struct {
	finding int    // its index
	line    uint64 // the last one that it is about
	first   string // what is said of the first one
	more    int    // how many more there are if another one follows
}

// span is where lines are missing.
type span struct {
	first, last uint64
	where       string // the line after them
	unproven    bool   // and that does not say what it is bound to
}

func newVerifier(marks []Mark, end *Mark) *verifier {
	v := &verifier{marks: slices.Clone(marks), end: end, headless: len(marks) == 0}
	v.Findings = []finding.Finding{}
	slices.SortStableFunc(v.marks, func(a, b Mark) int { return cmp.Compare(a.Head.Seq, b.Head.Seq) })
	return v
}

// push judges the line before, and keeps this one.
func (v *verifier) push(where string, text []byte) {
	parsed, err := parseLine(bytes.Clone(text))
	if err != nil {
		v.flush(nil)
		v.damaged++
		v.problem("line-damaged", where, v.Lines, "not a line of an audit log")
		return
	}
	next := &sighted{parsed, where, v.Lines}
	v.flush(next)
	v.held = next
}

func (v *verifier) flush(next *sighted) {
	if held := v.held; held != nil {
		v.held = nil
		v.judge(held, next)
		v.damaged = 0
	}
}

// judge looks at a line; next is the one after it, if it can be read.
func (v *verifier) judge(l, next *sighted) {
	seq := l.Seq
	switch expected := v.at.Seq; {
	case expected == 0:
		v.begin(seq, l.where)
	case seq < expected:
		v.problem("line-out-of-place", l.where, l.n, fmt.Sprintf("line number %d comes after number %d: it was moved or added", seq, expected-1))
		return
	case seq == expected && next != nil && next.Seq == seq && v.keyed && !v.proven(l):
		v.problem("line-out-of-place", l.where, l.n, fmt.Sprintf("not what the log wrote as line number %d, which comes next", seq))
		return
	case seq == expected:
		v.reach(seq)
	case seq-expected > maxSkip || next != nil && next.Seq == expected+1:
		seq = expected // it stands in the right place under a wrong number, which its code will not fit
		v.reach(seq)
		if !v.keyed {
			v.problem("line-changed", l.where, l.n, fmt.Sprintf("line number %d stands in the place of number %d", l.Seq, seq))
		}
	default:
		if seq-expected > v.damaged {
			v.missing = append(v.missing, span{first: expected, last: seq - 1, where: l.where})
		}
		v.reach(seq)
	}
	v.Last = seq
	if v.prove(l) {
		v.note(l)
	}
	if v.keyed {
		v.computed = v.at.code(v.at.MAC, l.body)
	}
	v.advance(l.mac)
}

// begin takes the first line.
func (v *verifier) begin(seq uint64, where string) {
	v.First, v.at.Seq = seq, seq
	if len(v.marks) == 0 {
		return
	}
	switch mark := v.marks[0]; {
	case seq < mark.Head.Seq:
		v.found(finding.Info, "before-head", where,
			fmt.Sprintf("the lines before number %d are older than the head: only their form and numbers can be looked at", mark.Head.Seq), "")
	case seq-mark.Head.Seq > maxSkip:
		v.found(finding.Error, "head-too-old", mark.Name, fmt.Sprintf("the log begins more than %d lines after the head", maxSkip), "use a later head")
		v.marks = v.marks[1:]
		v.begin(seq, where)
		return
	default:
		if seq > mark.Head.Seq {
			v.missing = append(v.missing, span{first: mark.Head.Seq, last: seq - 1, where: where})
		}
		v.at, v.keyed, v.bound = mark.Head, true, true
		v.marks = v.marks[1:]
		v.reach(seq)
		return
	}
	v.reach(seq)
}

// reach goes on to the line seq, and looks at the marks on the way.
func (v *verifier) reach(seq uint64) {
	for len(v.marks) > 0 && v.marks[0].Head.Seq <= seq {
		mark := v.marks[0]
		v.marks = v.marks[1:]
		v.skip(mark.Head.Seq)
		if v.keyed && !v.fits(mark.Head) {
			v.found(finding.Error, "head-does-not-fit", mark.Name, fmt.Sprintf("the chain arrives at line number %d with another head", mark.Head.Seq), fixHeads)
		}
		v.at, v.keyed, v.bound = mark.Head, true, true
	}
	if v.end != nil && v.end.Head.Seq <= seq {
		v.skip(v.end.Head.Seq)
		v.compareEnd()
	}
	v.skip(seq)
}

// compareEnd looks at the state, where the chain has arrived at it.
func (v *verifier) compareEnd() {
	if v.keyed && !v.fits(v.end.Head) || !v.keyed && v.bound && v.at.MAC != v.end.Head.MAC {
		v.found(finding.Error, "state-does-not-fit", v.end.Name, fmt.Sprintf("the chain arrives at line number %d with another state", v.end.Head.Seq),
			"take the end of the log for tampered with: the state file is an older one, or of another log")
	}
	v.end = nil
}

// fits reports whether the chain is where head is, as far as it can be known.
func (v *verifier) fits(head Head) bool {
	return v.at.Key == head.Key && (!v.bound || v.at.MAC == head.MAC || v.computed == head.MAC)
}

// skip goes over lines that are not there.
func (v *verifier) skip(seq uint64) {
	for v.at.Seq < seq {
		v.advance(Code{})
		v.bound = false
	}
}

// advance goes on behind a line with this code.
func (v *verifier) advance(mac Code) {
	v.bound = true
	if v.keyed {
		v.at.step(mac)
		return
	}
	v.at.Seq, v.at.MAC = v.at.Seq+1, mac
}

// prove looks whether the line is what the log wrote in this place, and reports whether what it says may be believed: if it is,
// or if there is no head and nothing can be proven.
func (v *verifier) prove(l *sighted) bool {
	switch {
	case !v.keyed:
		return v.headless
	case v.proven(l):
		v.Verified++
		if l.After != nil && v.bound && *l.After != v.at.MAC && *l.After != v.computed {
			v.problem("lines-replaced", l.where, l.n, "the lines before this one are not those that the log had written")
		}
		return true
	case !v.bound && l.After == nil: // the line that it hangs on is missing
		if last := len(v.missing) - 1; last >= 0 && v.missing[last].where == l.where {
			v.missing[last].unproven = true
		}
	case l.Event == chainStarted:
		v.found(finding.Error, "chain-restarted", l.where, "another chain starts here: nobody can tell what is missing before it, and this head proves nothing after it",
			"find out why the state file was lost, then export another head")
		v.keyed = false
	default:
		v.problem("line-changed", l.where, l.n, "not what the log wrote here")
	}
	return false
}

// proven reports whether the line is made with the key of its place, behind the line before, or what it says is before it.
func (v *verifier) proven(l *sighted) bool {
	if l.After != nil {
		return l.proves(&v.at, *l.After)
	}
	return v.bound && (l.proves(&v.at, v.at.MAC) || l.proves(&v.at, v.computed))
}

// note keeps what the log says of itself in a line that may be believed.
func (v *verifier) note(l *sighted) {
	switch d := l.details(); l.Event {
	case chainStarted, fileStarted:
		v.removed = max(v.removed, d.Removed)
	case lost:
		v.found(finding.Warning, "lines-lost", l.where, fmt.Sprintf("%d events between %s and this line have no line: the disk was full, or could not be written", d.Count, d.Since),
			"watch trousseau_audit_log_lost_lines_total; export another head when you know why")
	case gap:
		v.found(finding.Warning, "gap-noticed", l.where, "the daemon noticed at its start that the log was not as it had left it", fixTampered)
	case tornLine:
		v.found(finding.Info, "torn-line", l.where, "a last line that was not whole was removed here when the daemon started: it was killed while writing it", "")
	}
}

// problem adds a finding about a line. Lines after it with the same problem are added to that finding.
func (v *verifier) problem(rule, where string, n uint64, what string) {
	if r := &v.run; r.more > 0 && n == r.line+1 && v.Findings[r.finding].Rule == rule {
		v.Findings[r.finding].What = fmt.Sprintf("%s; the same goes for the next lines, %d of them", r.first, r.more)
		r.line, r.more = n, r.more+1
		return
	}
	v.run = run{len(v.Findings), n, what, 1}
	v.found(finding.Error, rule, where, what, fixTampered)
}

// finish looks at the end, and at what is missing.
func (v *verifier) finish() {
	v.flush(nil)
	if v.torn != "" {
		v.found(finding.Warning, "line-torn", v.torn, "the last line is not whole: it is being written, or the daemon was killed or the line cut while it was",
			"verify again; the daemon removes it when it starts")
	}
	if v.at.Seq == 0 { // there is no line
		v.at.Seq = 1
		if len(v.marks) > 0 {
			v.at, v.keyed, v.bound = v.marks[0].Head, true, true
		}
	}
	v.atEnd()
	for _, s := range v.missing {
		v.report(s)
	}
}

// atEnd looks whether the log arrives at the state and at all heads.
func (v *verifier) atEnd() {
	last := v.end
	if v.end != nil && v.end.Head.Seq == v.at.Seq {
		last = nil
		v.compareEnd()
	}
	for _, mark := range v.marks {
		switch {
		case mark.Head.Seq == v.at.Seq:
			v.reach(mark.Head.Seq)
		case last == nil || last.Head.Seq < mark.Head.Seq:
			last = &mark
		}
	}
	if last != nil && last.Head.Seq > v.at.Seq {
		v.found(finding.Error, "lines-cut-off", last.Name, fmt.Sprintf("the lines number %d to %d are cut off at the end", v.at.Seq, last.Head.Seq-1), fixTampered)
	}
}

// report tells of missing lines, and which of them the log has removed itself.
func (v *verifier) report(s span) {
	if v.removed >= s.first {
		v.found(finding.Info, "lines-removed-by-keep", s.where, fmt.Sprintf("the lines number %d to %d are not there any more: their files were more than auditLog.keep", s.first, min(s.last, v.removed)), "")
		s.first = v.removed + 1
	}
	switch {
	case s.first <= s.last:
		v.found(finding.Error, "lines-missing", s.where, fmt.Sprintf("the lines number %d to %d before this one are missing", s.first, s.last), fixTampered)
	case s.unproven:
		v.found(finding.Error, "line-changed", s.where, "not what the log wrote here: the first line of a file says what it is bound to", fixTampered)
	}
}

package auditlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

const (
	maxText = 1 << 10   // bytes of one field: callers choose some of them
	maxLine = 128 << 10 // bytes of a line that is read

	beforeMAC = `,"mac":"` // ends what the code is about
	afterMAC  = `"}`
	macSize   = len(beforeMAC) + 2*len(Code{}) + len(afterMAC)
)

// appendLine appends the line of e to b, and moves h on to the next:
//
//	{"seq":7,"time":"2026-11-24T16:39:27.123456789Z","event":"open","code":"OK","mac":"64 hexadecimal digits"}
//
// A line with an after is bound to that code, rather than to whatever line is found before it.
func appendLine(b []byte, h *Head, e *entry) []byte {
	start := len(b)
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, h.Seq, 10)
	b = append(b, `,"time":"`...)
	b = e.time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000000Z07:00")
	b = append(b, `","event":`...)
	b = append(b, quoted(e.event)...)
	if e.bound {
		b = append(b, `,"after":"`+h.MAC.String()+`"`...)
	}
	for _, f := range e.fields {
		b = append(b, ',')
		b = append(b, quoted(f.Key)...)
		b = append(b, ':')
		b = append(b, valueOf(f.Value)...)
	}
	mac := h.code(h.MAC, b[start:])
	h.step(mac)
	b = append(b, beforeMAC...)
	b = append(b, mac.String()...)
	return append(b, afterMAC+"\n"...)
}

func valueOf(v slog.Value) string {
	switch v = v.Resolve(); v.Kind() {
	case slog.KindInt64, slog.KindUint64, slog.KindBool:
		return v.String()
	}
	text := v.String()
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return quoted(text)
}

// quoted returns a text as JSON; bytes that are no UTF-8 are replaced.
func quoted(text string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string always encodes
	return strings.TrimSuffix(b.String(), "\n")
}

// line is what the log has to know of a line to verify it.
type line struct {
	Seq   uint64    `json:"seq"`
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	After *Code     `json:"after"`

	body []byte // what the code is about
	mac  Code
}

// details are fields of lines that the log writes of its own accord.
type details struct {
	Removed uint64 `json:"removed"` // of chainStarted and fileStarted
	Count   uint64 `json:"count"`   // of lost
	Since   string `json:"since"`   // of lost
	Bytes   int    `json:"bytes"`   // of tornLine
}

var errLine = errors.New("not a line of an audit log")

// parseLine reads a line without its end. It keeps text.
func parseLine(text []byte) (line, error) {
	var l line
	if len(text) < macSize || len(text) > maxLine {
		return l, errLine
	}
	body, end := text[:len(text)-macSize], text[len(text)-macSize:]
	mac, ok := bytes.CutPrefix(end, []byte(beforeMAC))
	if !ok || !bytes.HasSuffix(mac, []byte(afterMAC)) {
		return l, errLine
	}
	if err := l.mac.UnmarshalText(mac[:len(mac)-len(afterMAC)]); err != nil {
		return l, errLine
	}
	l.body = body
	if err := l.decode(&l); err != nil || l.Seq == 0 || l.Event == "" || l.Time.IsZero() {
		return line{}, errLine
	}
	return l, nil
}

// seqOf returns the number that a line begins with, or 0, without a look at the rest of it.
func seqOf(text []byte) uint64 {
	rest, ok := bytes.CutPrefix(text, []byte(`{"seq":`))
	digits, _, found := bytes.Cut(rest, []byte(","))
	if !ok || !found {
		return 0
	}
	seq, _ := strconv.ParseUint(string(digits), 10, 64) // 0 for what is no number
	return seq
}

// proves reports whether the line is made with the key of h, after a line with the code before.
func (l *line) proves(h *Head, before Code) bool { return h.code(before, l.body) == l.mac }

// decode reads the fields of the line.
func (l *line) decode(into any) error { return json.Unmarshal(append(bytes.Clone(l.body), '}'), into) }

// details returns what a line of the log's own says. Fields of other lines may have the same names and mean something else.
func (l *line) details() (d details) {
	switch l.Event {
	case chainStarted, fileStarted, lost, tornLine:
		_ = l.decode(&d) // what is not there is zero
	}
	return d
}

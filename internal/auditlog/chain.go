package auditlog

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/trousseau-io/trousseau/internal/secretmem"
)

// format names the chain, and is part of how its keys are made.
const format = "tra1"

// Head is a place in a chain: a line can be verified with the head at its number, and so can all that follow.
//
// It is secret: who has it can make lines from there on. It prints as "redacted"; Encode has the secret.
type Head struct {
	Seq uint64 // the number of the line
	Key Key    // what the line is made with
	MAC Code   // the code of the line before, zero if there is none
}

// Key is what one line is made with.
type Key [sha256.Size]byte

const redacted = "redacted"

// Format prints "redacted" for every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "redacted".
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "redacted".
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// Code is what proves a line. It is no secret.
type Code [sha256.Size]byte

// String returns the code in hexadecimal digits.
func (c Code) String() string { return hex.EncodeToString(c[:]) }

// MarshalText is String for encoders.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads 64 hexadecimal digits in small letters: one code has one spelling.
func (c *Code) UnmarshalText(text []byte) error {
	return unhex(c[:], text)
}

func unhex(into, text []byte) error {
	if len(text) != hex.EncodedLen(len(into)) || bytes.ContainsAny(text, "ABCDEF") {
		return errors.New("not 64 hexadecimal digits in small letters")
	}
	_, err := hex.Decode(into, text)
	return err
}

// newHead starts a chain at a line.
func newHead(seq uint64) Head {
	h := Head{Seq: seq}
	rand.Read(h.Key[:])
	return h
}

// code returns that of a line with this body after a line with the code before.
func (h *Head) code(before Code, body []byte) (c Code) {
	secretmem.Do(func() {
		mac := hmac.New(sha256.New, h.Key[:])
		mac.Write(before[:])
		mac.Write(body)
		mac.Sum(c[:0])
	})
	return c
}

// step goes on to the next line, and forgets the key of this one.
func (h *Head) step(mac Code) {
	const label = format + " key"
	secretmem.Do(func() {
		var in [1 + len(label) + len(h.Key)]byte
		in[0] = byte(len(label))
		copy(in[1:], label)
		copy(in[1+len(label):], h.Key[:])
		h.Key = sha256.Sum256(in[:])
	})
	h.Seq++
	h.MAC = mac
}

// state is where a log goes on: the head of the next line, and what has to outlive the process.
type state struct {
	Head
	removed uint64 // lines up to this number were removed because of Config.Keep
	lost    uint64 // events without a line, not told yet
	since   time.Time
}

// Encode returns the head as one line of JSON, with its secret.
func (h Head) Encode() []byte { return state{Head: h}.encode() }

// encode makes no copies of the key that are not in what it returns.
func (s state) encode() []byte {
	b := make([]byte, 0, stateSize)
	b = fmt.Appendf(b, `{"format":%q,"seq":%d,"mac":"%s","key":"`, format, s.Seq, s.MAC)
	b = hex.AppendEncode(b, s.Key[:])
	b = append(b, '"')
	if s.removed > 0 {
		b = fmt.Appendf(b, `,"removed":%d`, s.removed)
	}
	if s.lost > 0 {
		b = fmt.Appendf(b, `,"lost":%d,"since":%q`, s.lost, s.since.UTC().Format(time.RFC3339Nano))
	}
	return append(b, "}\n"...)
}

// ParseHead reads what Encode wrote.
func ParseHead(text []byte) (Head, error) {
	s, err := parseState(text)
	return s.Head, err
}

func parseState(text []byte) (state, error) {
	var f struct {
		Format  string    `json:"format"`
		Seq     uint64    `json:"seq"`
		MAC     Code      `json:"mac"`
		Key     string    `json:"key"`
		Removed uint64    `json:"removed"`
		Lost    uint64    `json:"lost"`
		Since   time.Time `json:"since"`
	}
	s := state{}
	err := json.Unmarshal(text, &f)
	if err == nil {
		err = unhex(s.Key[:], []byte(f.Key))
	}
	if err != nil || f.Format != format || f.Seq == 0 {
		return state{}, errors.New("not the head of an audit log, format " + format)
	}
	s.Seq, s.MAC, s.removed, s.lost, s.since = f.Seq, f.MAC, f.Removed, f.Lost, f.Since
	return s, nil
}

package memory

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Search looks for many secrets at once, each in every form in which a program may have it. A secret counts as found when
// one half of a form is there.
type Search struct {
	names   []string // of the kinds of secrets
	secrets []int    // the kind of each secret
	halves  map[uint64][]half
	maybe   []uint64 // a bit for each hash of 8 bytes that a half begins with
}

type half struct {
	secret int
	form   string
	text   string
}

const hashBits = 24

// Add has the search look for secrets of at least 32 bytes, which are counted under the name of their kind.
func (s *Search) Add(kind string, secrets ...[]byte) {
	if s.halves == nil {
		s.halves, s.maybe = make(map[uint64][]half), make([]uint64, 1<<hashBits/64)
	}
	at := slices.Index(s.names, kind)
	if at < 0 {
		at = len(s.names)
		s.names = append(s.names, kind)
	}
	for _, secret := range secrets {
		s.secrets = append(s.secrets, at)
		for form, texts := range forms(secret) {
			for _, text := range texts {
				s.add(half{len(s.secrets) - 1, form, text[:len(text)/2]})
				s.add(half{len(s.secrets) - 1, form, text[len(text)/2:]})
			}
		}
	}
}

func (s *Search) add(h half) {
	word := binary.LittleEndian.Uint64([]byte(h.text))
	if slices.Contains(s.halves[word], h) { // the URL form of base64 is often the same
		return
	}
	s.halves[word] = append(s.halves[word], h)
	s.maybe[hash(word)/64] |= 1 << (hash(word) % 64)
}

// forms returns what a secret looks like in memory. What base64 makes of it depends on how many bytes stand before it.
func forms(secret []byte) map[string][]string {
	digits := hex.EncodeToString(secret)
	forms := map[string][]string{"raw": {string(secret)}, "hex": {digits, strings.ToUpper(digits)}}
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), secret...))
		own := encoded[(before*8+5)/6 : (before+len(secret))*8/6] // without what depends on the neighbours
		forms["base64"] = append(forms["base64"], own, strings.NewReplacer("+", "-", "/", "_").Replace(own))
	}
	return forms
}

func hash(word uint64) uint64 { return word * 0x9e3779b97f4a7c15 >> (64 - hashBits) }

// Found is how many secrets of each kind were found, by form.
type Found map[string]map[string]int

// In returns what the regions hold, and where the first of each kind and form is.
func (s *Search) In(regions ...Region) (found Found, where map[string]string) {
	seen := make([]map[string]bool, len(s.secrets))
	where = make(map[string]string)
	for _, region := range regions {
		s.scan(region.Bytes, func(at int, h half) {
			if seen[h.secret] == nil {
				seen[h.secret] = make(map[string]bool)
			}
			seen[h.secret][h.form] = true
			if kind := s.names[s.secrets[h.secret]] + " " + h.form; where[kind] == "" {
				where[kind] = fmt.Sprintf("%s + %#x", region.Name, at)
			}
		})
	}
	found = make(Found)
	for _, kind := range s.names {
		found[kind] = make(map[string]int)
	}
	for secret, forms := range seen {
		for form := range forms {
			found[s.names[s.secrets[secret]]][form]++
		}
	}
	return found, where
}

// empty is a page without content, of which dumps have many.
var empty = make([]byte, 4096)

func (s *Search) scan(content []byte, hit func(at int, h half)) {
	for at := 0; at+8 <= len(content); at++ {
		if at%len(empty) == 0 && bytes.HasPrefix(content[at:], empty) {
			at += len(empty) - 8 // what comes next may begin with zeros
			continue
		}
		word := binary.LittleEndian.Uint64(content[at:])
		if h := hash(word); word == 0 || s.maybe[h/64]&(1<<(h%64)) == 0 {
			continue
		}
		for _, h := range s.halves[word] {
			if end := at + len(h.text); end <= len(content) && string(content[at:end]) == h.text {
				hit(at, h)
			}
		}
	}
}

//go:build cgo

package pkcs11

import (
	"cmp"
	"strings"
)

// match returns what stands in label for the * of pattern. A pattern without * matches itself.
func match(pattern, label string) (version string, ok bool) {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return "", pattern == label
	}
	rest, ok := strings.CutPrefix(label, before)
	if !ok {
		return "", false
	}
	version, ok = strings.CutSuffix(rest, after)
	return version, ok && version != ""
}

// compare orders the texts of versions: runs of digits by the number they are, all else by its bytes. Texts that differ are
// never equal: of two that spell the same numbers, such as 7 and 07, the one with fewer zeros comes first.
func compare(a, b string) int {
	for x, y := a, b; x != "" || y != ""; {
		m, n := digits(x), digits(y)
		if m == 0 || n == 0 {
			if x == "" || y == "" || x[0] != y[0] {
				return cmp.Compare(x, y)
			}
			x, y = x[1:], y[1:]
			continue
		}
		i, j := strings.TrimLeft(x[:m], "0"), strings.TrimLeft(y[:n], "0")
		if c := cmp.Or(cmp.Compare(len(i), len(j)), cmp.Compare(i, j)); c != 0 {
			return c
		}
		x, y = x[m:], y[n:]
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// digits returns how many digits s starts with.
func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

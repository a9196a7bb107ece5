package strictyaml

import (
	"slices"
	"strings"
)

// unknown returns what to say about a field that does not exist, and the field that was probably meant, if any.
func unknown(name string, fields []Field) (text, meant string) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	if i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, name+"File") }); i >= 0 {
		return "unknown field: secrets are files: use " + names[i], names[i]
	}
	if near := nearest(name, names); near != "" {
		return "unknown field: did you mean " + near + "?", near
	}
	if secretName(name) {
		return "unknown field: secrets are files, never values: name the file in a field such as tokenFile", ""
	}
	return "unknown field: the fields here are " + strings.Join(names, ", "), ""
}

// secretName reports whether a field of this name would hold a secret.
func secretName(name string) bool {
	name = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
	for _, end := range []string{"token", "password", "passphrase", "secret", "secretid", "secretkey", "privatekey"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return name == "pin" || name == "jwt"
}

// nearest returns the candidate that name is probably a slip for, or "".
func nearest(name string, candidates []string) string {
	const longest = 64
	if len(name) > longest {
		return ""
	}
	best, bestDistance := "", max(1, len(name)/3)+1
	for _, candidate := range candidates {
		if strings.EqualFold(name, candidate) {
			return candidate
		}
		if d := distance(strings.ToLower(name), strings.ToLower(candidate)); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their neighbour to make b out of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

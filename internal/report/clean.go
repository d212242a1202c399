package report

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName bounds a single foreign name or command in a report for people, in
// runes; JSON has all of it.
const maxName = 240

// maxProse bounds a sentence, which may hold several names.
const maxProse = 2000

// hostile reports whether a rune could do more on a terminal or a page than
// show itself: control characters (C0, C1, DEL), format characters such as those
// that turn the direction of writing, line separators, and private ones.
func hostile(r rune) bool {
	if r == utf8.RuneError {
		return false // already a visible sign of something undecodable
	}
	return r != ' ' && !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r)
}

// visible returns s with every hostile rune and every byte that is no UTF-8
// written as an escape, and at most limit runes of it: a name of a target must
// not be able to write to a terminal.
func visible(s string, limit int) string {
	var b strings.Builder
	n := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if n >= limit {
			b.WriteString("...")
			break
		}
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + hex2(s[i]))
		case r == '\n' || r == '\t' || r == '\r':
			b.WriteByte(' ')
		case hostile(r):
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
		n++
	}
	return b.String()
}

func hex2(c byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[c>>4], digits[c&15]})
}

// name is visible for a name, path or command of a target.
func name(s string) string { return visible(s, maxName) }

// prose is visible for a sentence, which quotes names of a target.
func prose(s string) string { return visible(s, maxProse) }

// plural counts things: "1 thread", "2 threads".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many(one)
}

// many is the plural of a noun of ours.
func many(one string) string {
	switch {
	case strings.HasSuffix(one, "ss"):
		return one + "es"
	case one == "this":
		return "these"
	}
	return one + "s"
}

// ranges writes ascending numbers shortly: "7, 9-12".
func ranges(n []int) string {
	var out []string
	for i := 0; i < len(n); {
		k := i
		for k+1 < len(n) && n[k+1] == n[k]+1 {
			k++
		}
		switch {
		case k-i >= 2:
			out = append(out, strconv.Itoa(n[i])+"-"+strconv.Itoa(n[k]))
		default:
			for ; i <= k; i++ {
				out = append(out, strconv.Itoa(n[i]))
			}
		}
		i = k + 1
	}
	return strings.Join(out, ", ")
}

// numbers writes them all, as kill(1) takes them.
func numbers(n []int) string {
	out := make([]string, len(n))
	for i, v := range n {
		out[i] = strconv.Itoa(v)
	}
	return strings.Join(out, " ")
}

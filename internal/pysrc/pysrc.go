// Package pysrc reads Python's source: a tokenizer and a recursive-descent parser
// for the language through 3.14, with places and with recovery after errors.
// Nothing is executed. Its trees are compared with those of CPython's own ast
// module, over the standard libraries of 3.9, 3.11, 3.13 and 3.14, by a test.
package pysrc

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// MaxSize bounds a source file, in bytes.
const MaxSize = 32 << 20

// Read decodes and parses the bytes of a source file. What is wrong with its
// encoding is an error of the file at its place, like any other.
func Read(b []byte) (*File, string) {
	src, bad := Decode(b)
	f := Parse(src)
	if bad != nil && (len(f.Errors) == 0 || f.Errors[0].Pos != bad.Pos) {
		f.Errors = append([]*SyntaxError{bad}, f.Errors...)
	}
	return f, src
}

// Decode makes UTF-8 of a source file, by its byte order mark or by the comment
// that names an encoding in one of its first two lines (PEP 263). Bytes that are
// not of that encoding become U+FFFD, and the first of them is returned as an
// error.
func Decode(b []byte) (string, *SyntaxError) {
	s := string(b)
	rest, bom := strings.CutPrefix(s, "\xef\xbb\xbf")
	name, at := cookie(rest)
	var bad *SyntaxError
	switch norm := strings.ReplaceAll(strings.ToLower(name), "_", "-"); {
	case bom || norm == "" || norm == "utf-8" || strings.HasPrefix(norm, "utf-8-") || norm == "utf8" || norm == "ascii" || norm == "us-ascii":
		if bom && norm != "" && !strings.HasPrefix(norm, "utf-8") && norm != "utf8" {
			bad = &SyntaxError{at, fmt.Sprintf("the file begins with UTF-8's byte order mark but says that it is %q", name)}
		}
		s = rest
	case norm == "latin-1" || strings.HasPrefix(norm, "latin-1-") || norm == "latin1" || norm == "iso-8859-1" || strings.HasPrefix(norm, "iso-8859-1-") || norm == "iso-latin-1":
		// Python's Latin-1 has the C1 controls; the web's is Windows'.
		var u strings.Builder
		for i := range len(s) {
			u.WriteRune(rune(s[i]))
		}
		s = u.String()
	default:
		e, err := htmlindex.Get(norm)
		if err != nil {
			e, err = htmlindex.Get(strings.ReplaceAll(norm, "cp", "windows-"))
		}
		if err != nil {
			bad = &SyntaxError{at, fmt.Sprintf("the encoding %q is not known", name)}
			break
		}
		if u, err := e.NewDecoder().String(s); err == nil {
			s = u
		}
	}
	if !utf8.ValidString(s) {
		for i := 0; i < len(s) && bad == nil; {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				bad = &SyntaxError{place(s, i), fmt.Sprintf("the byte 0x%02x is no UTF-8, and the file names no other encoding", s[i])}
			}
			i += n
		}
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if i := strings.IndexByte(s, 0); i >= 0 && bad == nil {
		bad = &SyntaxError{place(s, i), "the file has a null byte"}
	}
	return s, bad
}

func place(s string, i int) Pos {
	return Pos{int32(strings.Count(s[:i], "\n") + 1), int32(i - strings.LastIndexByte(s[:i], '\n') - 1)}
}

// cookie finds the name of an encoding in the first two lines: a comment with
// "coding:" or "coding=", after nothing but blank lines and comments.
func cookie(s string) (name string, at Pos) {
	for n := range 2 {
		line := s
		if i := strings.IndexAny(s, "\r\n"); i >= 0 {
			line, s = s[:i], strings.TrimPrefix(s[i:], "\r")
			s = strings.TrimPrefix(s, "\n")
		} else {
			s = ""
		}
		text := strings.TrimLeft(line, " \t\f")
		if text == "" {
			continue
		}
		if text[0] != '#' {
			return "", Pos{}
		}
		for rest := text; ; {
			i := strings.Index(rest, "coding")
			if i < 0 {
				break
			}
			if rest = rest[i+len("coding"):]; rest == "" || rest[0] != ':' && rest[0] != '=' {
				continue
			}
			v := strings.TrimLeft(rest[1:], " \t")
			end := 0
			for end < len(v) && (isIdent(v[end]) && v[end] < 0x80 || v[end] == '-' || v[end] == '.') {
				end++
			}
			if end > 0 {
				return v[:end], Pos{int32(n + 1), int32(strings.Index(line, v))}
			}
		}
	}
	return "", Pos{}
}

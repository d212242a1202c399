package pysrc

import "strings"

// fstring reads an f-string or t-string after its opening quotes. Its tokens are
// those of CPython 3.12 and later (PEP 701): start, text, the tokens of each
// replacement field, end. What earlier versions allow is a part of that.
func (l *lexer) fstring(start int, from Pos, quote byte, quotes int, raw bool) {
	if l.strings >= maxStrings {
		l.fail(start, from, "f-strings are nested too deeply")
		return
	}
	before, depth := l.state(), len(l.brackets)
	l.emit(tFStart, opNone, start, from)
	l.strings++
	f := &fstring{quote: quote, quotes: quotes, raw: raw}
	for l.literal(f, false) {
		l.field(f)
	}
	l.strings--
	if l.broken {
		l.brackets = l.brackets[:min(depth, len(l.brackets))]
		if l.strings > 0 {
			return
		}
		l.broken = false
		if l.pos >= len(l.src) && l.line > before.line && l.rewinds < maxRewinds {
			l.rewinds++
			for i := range l.tokens[before.tokens:] {
				delete(l.errors, int32(before.tokens+i))
			}
			l.tokens, l.comments = l.tokens[:before.tokens], l.comments[:before.comments]
			l.pos, l.lineStart, l.line = before.pos, before.lineStart, before.line
			l.skipLine()
			l.fail(start, from, "an f-string that the file does not end")
		}
	}
}

type fstring struct {
	quote  byte
	quotes int
	raw    bool
}

// literal reads text up to a replacement field, and returns true there; or to the
// end of the string, or, within a format, to the brace that ends it.
func (l *lexer) literal(f *fstring, format bool) bool {
	start, from := l.pos, l.here()
	middle := func() {
		if l.pos > start {
			l.emit(tFMiddle, opNone, start, from)
		}
	}
	for l.pos < len(l.src) && !l.broken {
		c := l.src[l.pos]
		second := byte(0)
		if l.pos+1 < len(l.src) {
			second = l.src[l.pos+1]
		}
		switch {
		case c == f.quote && (f.quotes == 1 || strings.HasPrefix(l.src[l.pos:], strings.Repeat(string(c), 3))):
			middle()
			if format {
				l.fail(l.pos, l.here(), "a replacement field that is not closed")
				return false
			}
			at, end := l.pos, l.here()
			l.pos += f.quotes
			l.emit(tFEnd, opNone, at, end)
			return false
		case c == '\n' || c == '\r':
			if f.quotes == 1 {
				if format {
					// The field ends here or is in error; its end says which.
					middle()
					return false
				}
				l.fail(start, from, "a text that its line does not end")
				return false
			}
			l.newline()
		case c == '\\' && !f.raw && second == 'N' && strings.HasPrefix(l.src[l.pos:], `\N{`):
			if end := strings.IndexAny(l.src[l.pos:], "}\n\""); end > 0 && l.src[l.pos+end] == '}' {
				l.pos += end
			}
			l.pos++
		case c == '\\' && (second == '{' || second == '}'):
			l.pos++ // the brace counts
		case c == '\\':
			l.pos++
			if l.pos < len(l.src) {
				if l.atNewline() {
					l.newline()
				} else {
					l.pos++
				}
			}
		case c == '{' && second == '{' && !format, c == '}' && second == '}' && !format:
			l.pos += 2
		case c == '{':
			middle()
			return true
		case c == '}':
			middle()
			if format {
				return false
			}
			at, end := l.pos, l.here()
			l.pos++
			l.fail(at, end, "a single } in an f-string")
			return false
		default:
			l.pos++
		}
	}
	l.pos = min(l.pos, len(l.src))
	if !l.broken {
		l.fail(start, from, "a text that the file does not end")
	}
	return false
}

// field reads a replacement field; the position is at its opening brace.
func (l *lexer) field(f *fstring) {
	start, from := l.pos, l.here()
	l.pos++
	l.bracket(opLBrace, start, from)
	depth := len(l.brackets)
	for l.pos < len(l.src) && !l.broken {
		at, here := l.pos, l.here()
		top := len(l.brackets) == depth
		switch c := l.src[l.pos]; {
		case l.atNewline():
			l.newline()
		case top && c == '}':
			l.pos++
			l.bracket(opRBrace, at, here)
			return
		case top && c == '!' && !strings.HasPrefix(l.src[l.pos:], "!="):
			l.pos++
			l.emit(tOp, opBang, at, here)
		case top && c == ':':
			l.pos++
			l.emit(tOp, opColon, at, here)
			for l.literal(f, true) {
				l.field(f)
			}
			if !l.broken && (l.pos >= len(l.src) || l.src[l.pos] != '}' && !l.atNewline()) {
				l.fail(l.pos, l.here(), "a replacement field that is not closed")
			}
		default:
			l.next()
		}
	}
	if !l.broken {
		l.fail(start, from, "a replacement field that is not closed")
	}
}

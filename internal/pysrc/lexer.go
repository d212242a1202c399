package pysrc

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds, those of CPython where it has one.
const (
	maxIndent   = 100 // levels of indentation
	maxBrackets = 200 // brackets within brackets
	maxStrings  = 100 // f-strings within f-strings; CPython has 150
	maxRewinds  = 8   // what the file never ends, and is taken to end with its line
)

// lexer makes tokens of a whole file. What it cannot read becomes a token of
// kind tError, whose text is kept in errors, and it goes on.
type lexer struct {
	src       string
	pos       int
	line      int32
	lineStart int
	tokens    []token
	comments  []Comment
	// brackets are the open ones, innermost last.
	brackets []byte
	indents  []indent
	// strings counts the f-strings that are open.
	strings int
	// broken: an error within an f-string, which ends all that are open.
	broken bool
	// first is the state at the end of the line with the outermost open bracket.
	first   *state
	rewinds int
	errors  map[int32]string // by index of the token
}

// state is what is needed to read on from an earlier place.
type state struct {
	pos, lineStart, tokens, comments int
	line                             int32
	open                             byte
}

func (l *lexer) state() *state {
	return &state{pos: l.pos, lineStart: l.lineStart, tokens: len(l.tokens), comments: len(l.comments), line: l.line}
}

// rewind goes back to a state, with an error there, since what was read from
// there on has no end in this file. It returns false where that was done often
// enough: reading a file takes time that grows with its length alone.
func (l *lexer) rewind(s *state, message string) bool {
	if l.rewinds >= maxRewinds {
		return false
	}
	l.rewinds++
	for i := range l.tokens[s.tokens:] {
		delete(l.errors, int32(s.tokens+i))
	}
	l.pos, l.lineStart, l.line = s.pos, s.lineStart, s.line
	l.tokens, l.comments = l.tokens[:s.tokens], l.comments[:s.comments]
	l.brackets, l.broken, l.first = l.brackets[:0], false, nil
	l.fail(l.pos, l.here(), message)
	return true
}

// skipLine goes to the end of the line.
func (l *lexer) skipLine() {
	for l.pos < len(l.src) && !l.atNewline() {
		l.pos++
	}
}

// indent is a level of indentation: its width with tabs of eight columns and of
// one. Where the two do not agree about what is deeper, it is inconsistent.
type indent struct{ wide, narrow int }

func lex(src string) *lexer {
	l := &lexer{src: src, line: 1, indents: []indent{{}}, errors: make(map[int32]string), tokens: make([]token, 0, len(src)/4+16)}
	for l.pos < len(l.src) {
		l.logicalLine()
	}
	if n := len(l.tokens); n > 0 && l.tokens[n-1].kind != tNewline && l.tokens[n-1].kind != tDedent {
		l.emit(tNewline, opNone, l.pos, l.here())
	}
	for range l.indents[1:] {
		l.emit(tDedent, opNone, l.pos, l.here())
	}
	l.emit(tEOF, opNone, l.pos, l.here())
	return l
}

func (l *lexer) here() Pos { return Pos{l.line, int32(l.pos - l.lineStart)} }

func (l *lexer) emit(k kind, sub op, start int, from Pos) {
	l.tokens = append(l.tokens, token{kind: k, sub: sub, start: int32(start), end: int32(l.pos), from: from, to: l.here()})
}

func (l *lexer) fail(start int, from Pos, message string) {
	l.errors[int32(len(l.tokens))] = message
	l.emit(tError, opNone, start, from)
	if l.strings > 0 {
		l.broken = true
	}
}

// newline steps over the end of a line at the position.
func (l *lexer) newline() {
	if l.src[l.pos] == '\r' && l.pos+1 < len(l.src) && l.src[l.pos+1] == '\n' {
		l.pos++
	}
	l.pos++
	l.line++
	l.lineStart = l.pos
}

func (l *lexer) atNewline() bool { return l.src[l.pos] == '\n' || l.src[l.pos] == '\r' }

// logicalLine reads a line with all lines that it goes on in.
func (l *lexer) logicalLine() {
	var in indent
	for l.pos < len(l.src) {
		switch l.src[l.pos] {
		case ' ':
			in.wide++
			in.narrow++
		case '\t':
			in.wide = in.wide/8*8 + 8
			in.narrow++
		case '\f':
			in = indent{}
		case '\\':
			if !l.continued() {
				goto done
			}
			continue
		default:
			goto done
		}
		l.pos++
	}
done:
	if l.pos >= len(l.src) {
		return
	}
	if l.src[l.pos] == '#' {
		l.comment(true)
	}
	if l.pos >= len(l.src) {
		return
	}
	if l.atNewline() {
		l.newline()
		return
	}
	l.indentation(in)
	for l.pos < len(l.src) || l.open() {
		if l.atNewline() {
			if len(l.brackets) == 0 {
				l.first = nil
				start, from := l.pos, l.here()
				l.tokens = append(l.tokens, token{kind: tNewline, start: int32(start), end: int32(start), from: from, to: from})
				l.newline()
				return
			}
			if l.first == nil {
				l.first = l.state()
				l.first.open = l.brackets[0]
			}
			l.newline()
			if l.unclosed() {
				return
			}
			continue
		}
		l.next()
	}
}

// open goes back, at the end of the file, to the line with a bracket that was
// never closed; it returns false where there is none.
func (l *lexer) open() bool {
	return len(l.brackets) > 0 && l.first != nil && l.rewind(l.first, "a "+string(l.first.open)+" was never closed")
}

// unclosed ends brackets that were never closed, where a line begins with a
// word that only begins statements.
func (l *lexer) unclosed() bool {
	i := l.pos
	for i < len(l.src) && (l.src[i] == ' ' || l.src[i] == '\t') {
		i++
	}
	j := i
	for j < len(l.src) && l.src[j] >= 'a' && l.src[j] <= 'z' {
		j++
	}
	if j == i || !keyword(l.src[i:j]).beginsStatement() || (j < len(l.src) && isIdent(l.src[j])) {
		return false
	}
	at := l.here()
	l.fail(l.pos, at, "a "+string(l.brackets[len(l.brackets)-1])+" was never closed")
	l.brackets, l.first = l.brackets[:0], nil
	l.emit(tNewline, opNone, l.pos, at)
	return true
}

func (l *lexer) comment(alone bool) {
	end := strings.IndexAny(l.src[l.pos:], "\r\n")
	if end < 0 {
		end = len(l.src) - l.pos
	}
	l.comments = append(l.comments, Comment{Pos: l.here(), Text: l.src[l.pos : l.pos+end], Alone: alone})
	l.pos += end
}

// continued steps over a backslash at the end of a line.
func (l *lexer) continued() bool {
	if l.pos+1 >= len(l.src) {
		return false
	}
	if c := l.src[l.pos+1]; c != '\n' && c != '\r' {
		return false
	}
	l.pos++
	l.newline()
	return true
}

func (l *lexer) indentation(in indent) {
	top := l.indents[len(l.indents)-1]
	at := l.here()
	switch {
	case in.wide == top.wide:
		if in.narrow != top.narrow {
			l.fail(l.pos, at, "tabs and spaces are mixed in the indentation")
		}
		return
	case in.wide > top.wide:
		if in.narrow <= top.narrow {
			l.fail(l.pos, at, "tabs and spaces are mixed in the indentation")
		}
		if len(l.indents) >= maxIndent {
			l.fail(l.pos, at, "too many levels of indentation")
			return
		}
		l.indents = append(l.indents, in)
		l.emit(tIndent, opNone, l.pos, at)
		return
	}
	for len(l.indents) > 1 && in.wide < l.indents[len(l.indents)-1].wide {
		l.indents = l.indents[:len(l.indents)-1]
		l.emit(tDedent, opNone, l.pos, at)
	}
	if top := l.indents[len(l.indents)-1]; in.wide != top.wide {
		l.fail(l.pos, at, "the indentation is that of no line above")
	} else if in.narrow != top.narrow {
		l.fail(l.pos, at, "tabs and spaces are mixed in the indentation")
	}
}

func isIdent(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= '0' && c <= '9' || c >= 0x80
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// next reads one token, or what stands between tokens, within a line.
func (l *lexer) next() {
	start, from := l.pos, l.here()
	switch c := l.src[l.pos]; {
	case c == ' ' || c == '\t' || c == '\f':
		l.pos++
	case c == '#':
		l.comment(false)
	case c == '\\':
		if l.continued() {
			return
		}
		l.pos++
		l.fail(start, from, "a backslash that does not end its line")
	case c == '"' || c == '\'':
		l.text(start, from, "")
	case isDigit(c) || c == '.' && l.pos+1 < len(l.src) && isDigit(l.src[l.pos+1]):
		l.number()
		l.emit(tNumber, opNone, start, from)
	case isIdent(c):
		l.word(start, from)
	default:
		o, n := operator(l.src[l.pos:])
		if n == 0 {
			_, size := utf8.DecodeRuneInString(l.src[l.pos:])
			l.pos += size
			l.fail(start, from, "a character that is not allowed here")
			return
		}
		l.pos += n
		l.bracket(o, start, from)
	}
}

func (l *lexer) bracket(o op, start int, from Pos) {
	switch o {
	case opLParen, opLBracket, opLBrace:
		if len(l.brackets) >= maxBrackets {
			l.fail(start, from, "brackets are nested too deeply")
			return
		}
		l.brackets = append(l.brackets, l.src[start])
	case opRParen, opRBracket, opRBrace:
		n := len(l.brackets)
		if n == 0 {
			l.fail(start, from, "a "+o.String()+" that closes nothing")
			return
		}
		open := l.brackets[n-1]
		if l.brackets = l.brackets[:n-1]; n == 1 {
			l.first = nil
		}
		if strings.IndexByte("([{", open) != strings.IndexByte(")]}", l.src[start]) {
			l.fail(start, from, "a "+o.String()+" where a "+string(open)+" is open")
			return
		}
	}
	l.emit(tOp, o, start, from)
}

// word reads a name, a keyword, or the prefix of a text.
func (l *lexer) word(start int, from Pos) {
	ascii := true
	for l.pos < len(l.src) && isIdent(l.src[l.pos]) {
		ascii = ascii && l.src[l.pos] < 0x80
		l.pos++
	}
	s := l.src[start:l.pos]
	if l.pos < len(l.src) && len(s) <= 2 && (l.src[l.pos] == '"' || l.src[l.pos] == '\'') && isPrefix(s) {
		l.text(start, from, s)
		return
	}
	if o := keyword(s); o != opNone {
		l.emit(tKeyword, o, start, from)
		return
	}
	if !ascii && !identifier(s) {
		l.fail(start, from, "a character that no name may have")
		return
	}
	l.emit(tName, opNone, start, from)
}

func identifier(s string) bool {
	for i, r := range s {
		switch {
		case r == utf8.RuneError:
			return false
		case r == '_' || unicode.IsLetter(r) || unicode.Is(unicode.Nl, r) || unicode.Is(unicode.Other_ID_Start, r):
		case i > 0 && (unicode.In(r, unicode.Mn, unicode.Mc, unicode.Nd, unicode.Pc, unicode.Other_ID_Continue)):
		default:
			return false
		}
	}
	return true
}

func isPrefix(s string) bool {
	switch s {
	case "r", "R", "b", "B", "u", "U", "f", "F", "t", "T":
		return true
	}
	if len(s) != 2 {
		return false
	}
	a, b := s[0]|0x20, s[1]|0x20
	return a != b && (a == 'r' && (b == 'b' || b == 'f' || b == 't') || b == 'r' && (a == 'b' || a == 'f' || a == 't'))
}

func (l *lexer) number() {
	digits := func(ok func(byte) bool) {
		for l.pos < len(l.src) && (ok(l.src[l.pos]) || l.src[l.pos] == '_' && l.pos+1 < len(l.src) && ok(l.src[l.pos+1])) {
			l.pos++
		}
	}
	if l.src[l.pos] == '0' && l.pos+1 < len(l.src) {
		switch l.src[l.pos+1] | 0x20 {
		case 'x':
			l.pos += 2
			digits(func(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' })
			return
		case 'o', 'b':
			l.pos += 2
			digits(isDigit)
			return
		}
	}
	digits(isDigit)
	if l.pos < len(l.src) && l.src[l.pos] == '.' {
		l.pos++
		digits(isDigit)
	}
	if l.pos < len(l.src) && l.src[l.pos]|0x20 == 'e' {
		i := l.pos + 1
		if i < len(l.src) && (l.src[i] == '+' || l.src[i] == '-') {
			i++
		}
		if i < len(l.src) && isDigit(l.src[i]) {
			l.pos = i
			digits(isDigit)
		}
	}
	if l.pos < len(l.src) && l.src[l.pos]|0x20 == 'j' {
		l.pos++
	}
}

// text reads a text in quotes, whose prefix was read; the position is at the
// quotes.
func (l *lexer) text(start int, from Pos, prefix string) {
	q := l.src[l.pos]
	n := 1
	if strings.HasPrefix(l.src[l.pos:], strings.Repeat(string(q), 3)) {
		n = 3
	}
	l.pos += n
	before := l.state()
	if strings.ContainsAny(prefix, "fFtT") {
		l.fstring(start, from, q, n, strings.ContainsAny(prefix, "rR"))
		return
	}
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '\\':
			l.pos++
			if l.pos < len(l.src) {
				if l.atNewline() {
					l.newline()
				} else {
					l.pos++
				}
			}
		case c == q && (n == 1 || strings.HasPrefix(l.src[l.pos:], l.src[l.pos:l.pos+1]+string(q)+string(q))):
			l.pos += n
			l.emit(tString, opNone, start, from)
			return
		case c == '\n' || c == '\r':
			if n == 1 {
				l.fail(start, from, "a text that its line does not end")
				return
			}
			l.newline()
		default:
			l.pos++
		}
	}
	l.pos = min(l.pos, len(l.src))
	if l.strings == 0 && l.rewinds < maxRewinds {
		l.rewinds++
		l.pos, l.lineStart, l.line = before.pos, before.lineStart, before.line
		l.skipLine()
	}
	l.fail(start, from, "a text that the file does not end")
}

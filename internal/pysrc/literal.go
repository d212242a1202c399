package pysrc

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// literal is one text or number as it stands in the source.
type literal struct{ raw string }

func numberKind(s string) ConstantKind {
	switch {
	case s[len(s)-1]|0x20 == 'j':
		return Imaginary
	case len(s) > 1 && s[0] == '0' && strings.IndexByte("xXoObB", s[1]) >= 0:
		return Int
	case strings.ContainsAny(s, ".eE"):
		return Float
	}
	return Int
}

// Value is the value of a text, or of a number as it is written without "_".
// Names of characters (\N{...}) are not looked up: they become U+FFFD.
func (c *Constant) Value() string {
	switch c.Kind {
	case String, Bytes:
		if len(c.parts) == 1 {
			return unquote(c.parts[0].raw)
		}
		var b strings.Builder
		for _, p := range c.parts {
			b.WriteString(unquote(p.raw))
		}
		return b.String()
	case None:
		return "None"
	case True:
		return "True"
	case False:
		return "False"
	case Ellipsis:
		return "..."
	}
	return strings.ReplaceAll(c.parts[0].raw, "_", "")
}

// Number is the value of an integer that fits; ok is false of anything else.
func (c *Constant) Number() (n int64, ok bool) {
	if c.Kind != Int {
		return 0, false
	}
	n, err := strconv.ParseInt(c.parts[0].raw, 0, 64)
	return n, err == nil
}

// strings reads texts that stand beside each other, which are one.
func (p *parser) strings() Expr {
	from := p.tok.from
	var parts []literal
	var joined *JoinedStr
	bytes := false
	for first := true; ; first = false {
		switch p.tok.kind {
		case tString:
			raw := p.text(p.tok)
			b := raw[0]|0x20 == 'b' || raw[1]|0x20 == 'b' && raw[0] != raw[len(raw)-1]
			if !first && b != bytes {
				p.fail("bytes beside a text")
			}
			bytes = b
			if joined == nil {
				parts = append(parts, literal{raw})
			}
			p.next()
		case tFStart:
			if bytes {
				p.fail("bytes beside a text")
			}
			if joined == nil {
				joined = &JoinedStr{}
			}
			joined.Template = joined.Template || strings.ContainsAny(p.text(p.tok)[:2], "tT")
			p.next()
			joined.Values = p.fields(joined.Values)
			if p.tok.kind != tFEnd {
				p.fail("expected the end of the f-string")
			}
			p.next()
		default:
			if joined != nil {
				joined.Span = p.span(from)
				return joined
			}
			k := String
			if bytes {
				k = Bytes
			}
			return &Constant{exprNode{p.span(from)}, k, parts}
		}
	}
}

// fields reads text and replacement fields up to what is neither.
func (p *parser) fields(out []*FormattedValue) []*FormattedValue {
	for {
		switch {
		case p.tok.kind == tFMiddle:
			p.next()
		case p.is(opLBrace):
			out = append(out, p.replacement())
		default:
			return out
		}
	}
}

func (p *parser) replacement() *FormattedValue {
	p.enter()
	from := p.tok.from
	p.next()
	v := &FormattedValue{}
	if p.is(kwYield) {
		v.X = p.yield()
	} else {
		v.X = p.namedList()
	}
	p.accept(opAssign) // f"{x=}"
	if p.accept(opBang) {
		p.word()
	}
	if p.accept(opColon) {
		v.Spec = p.fields(nil)
	}
	p.expect(opRBrace)
	v.Span = p.span(from)
	p.leave()
	return v
}

// unquote is the value of one text as it stands in the source.
func unquote(raw string) string {
	i := strings.IndexAny(raw, `'"`)
	if i < 0 {
		return ""
	}
	prefix, body := raw[:i], raw[i:]
	n := 1
	if len(body) >= 6 && body[1] == body[0] && body[2] == body[0] {
		n = 3
	}
	if len(body) < 2*n {
		return ""
	}
	body = body[n : len(body)-n]
	if strings.IndexByte(body, '\r') >= 0 {
		body = strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\r", "\n")
	}
	if strings.ContainsAny(prefix, "rR") || strings.IndexByte(body, '\\') < 0 {
		return body
	}
	return unescape(body, strings.ContainsAny(prefix, "bB"))
}

func unescape(s string, bytes bool) string {
	b := make([]byte, 0, len(s))
	put := func(n uint64) {
		switch {
		case bytes:
			b = append(b, byte(n))
		case n >= 0xd800 && n <= 0xdfff: // half of a pair, which Python allows
			b = append(b, 0xed, byte(0x80|n>>6&0x3f), byte(0x80|n&0x3f))
		default:
			b = utf8.AppendRune(b, rune(min(n, 0x110000)))
		}
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 >= len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		digits := 0
		switch c := s[i]; c {
		case '\n':
		case '\\', '\'', '"':
			b = append(b, c)
		case 'a', 'b', 'f', 'n', 'r', 't', 'v':
			b = append(b, "\a\b\f\n\r\t\v"[strings.IndexByte("abfnrtv", c)])
		case '0', '1', '2', '3', '4', '5', '6', '7':
			j := i
			for j < len(s) && j < i+3 && s[j] >= '0' && s[j] <= '7' {
				j++
			}
			n, _ := strconv.ParseUint(s[i:j], 8, 32)
			put(n)
			i = j - 1
		case 'x':
			digits = 2
		case 'u', 'U':
			if bytes {
				b = append(b, '\\', c)
			} else if digits = 4; c == 'U' {
				digits = 8
			}
		case 'N':
			end := strings.IndexByte(s[i:], '}')
			if bytes || end < 0 {
				b = append(b, '\\', c)
			} else {
				put(utf8.RuneError)
				i += end
			}
		default:
			b = append(b, '\\', c)
		}
		if digits > 0 {
			end := min(i+1+digits, len(s))
			if n, err := strconv.ParseUint(s[i+1:end], 16, 32); err == nil {
				put(n)
				i = end - 1
			} else {
				b = append(b, '\\', s[i])
			}
		}
	}
	return string(b)
}

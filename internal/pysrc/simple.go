package pysrc

import "strings"

// simple reads a statement that has no block.
func (p *parser) simple() Stmt {
	from := p.tok.from
	switch p.tok.sub {
	case kwPass, kwBreak, kwContinue:
		s := &Simple{Word: p.tok.sub.String()}
		p.next()
		s.Span = p.span(from)
		return s
	case kwReturn:
		p.next()
		s := &Return{}
		if !p.atEnd() {
			s.X = p.exprList()
		}
		s.Span = p.span(from)
		return s
	case kwRaise:
		p.next()
		s := &Raise{}
		if !p.atEnd() {
			s.X = p.expr()
			if p.accept(kwFrom) {
				s.Cause = p.expr()
			}
		}
		s.Span = p.span(from)
		return s
	case kwGlobal, kwNonlocal:
		s := &Global{Nonlocal: p.is(kwNonlocal)}
		p.next()
		s.Names = append(s.Names, p.word())
		for p.accept(opComma) {
			s.Names = append(s.Names, p.word())
		}
		s.Span = p.span(from)
		return s
	case kwDel:
		p.next()
		s := &Delete{}
		for !p.atEnd() {
			s.Targets = append(s.Targets, p.target())
			if !p.accept(opComma) {
				break
			}
		}
		s.Span = p.span(from)
		return s
	case kwAssert:
		p.next()
		s := &Assert{Test: p.expr()}
		if p.accept(opComma) {
			s.Message = p.expr()
		}
		s.Span = p.span(from)
		return s
	case kwImport:
		p.next()
		s := &Import{}
		for {
			s.Names = append(s.Names, p.alias(true))
			if !p.accept(opComma) {
				break
			}
		}
		s.Span = p.span(from)
		return s
	case kwFrom:
		return p.importFrom()
	}
	if p.soft("type") && p.peek(1).kind == tName && (p.peek(2).sub == opAssign || p.peek(2).sub == opLBracket) {
		p.next()
		at := p.tok.from
		s := &TypeAlias{}
		id := p.word()
		s.Name = &Name{exprNode{p.span(at)}, id}
		s.TypeParams = p.typeParams()
		p.expect(opAssign)
		s.Value = p.expr()
		s.Span = p.span(from)
		return s
	}
	return p.exprStmt()
}

func (p *parser) atEnd() bool {
	return p.tok.kind == tNewline || p.tok.kind == tEOF || p.is(opSemi)
}

func (p *parser) dotted() string {
	var b strings.Builder
	b.WriteString(p.word())
	for p.accept(opDot) {
		b.WriteByte('.')
		b.WriteString(p.word())
	}
	return b.String()
}

func (p *parser) alias(dots bool) *Alias {
	from := p.tok.from
	a := &Alias{}
	if dots {
		a.Name = p.dotted()
	} else {
		a.Name = p.word()
	}
	if p.accept(kwAs) {
		a.As = p.word()
	}
	a.Span = p.span(from)
	return a
}

func (p *parser) importFrom() Stmt {
	from := p.tok.from
	p.next()
	s := &ImportFrom{}
	for {
		if p.accept(opDot) {
			s.Level++
		} else if p.accept(opEllipsis) {
			s.Level += 3
		} else {
			break
		}
	}
	if !p.is(kwImport) {
		s.Module = p.dotted()
	} else if s.Level == 0 {
		p.fail("expected the name of a module")
	}
	p.expect(kwImport)
	at := p.tok.from
	if p.accept(opStar) {
		s.Names = []*Alias{{Span: p.span(at), Name: "*"}}
		s.Span = p.span(from)
		return s
	}
	brackets := p.accept(opLParen)
	for {
		s.Names = append(s.Names, p.alias(false))
		if !p.accept(opComma) || brackets && p.is(opRParen) {
			break
		}
	}
	if brackets {
		p.expect(opRParen)
	}
	s.Span = p.span(from)
	return s
}

// exprStmt reads an expression, an assignment or an annotation.
func (p *parser) exprStmt() Stmt {
	from := p.tok.from
	x := p.starExprs()
	switch o := p.tok.sub; {
	case o == opAssign:
		s := &Assign{Targets: []Expr{x}}
		for p.accept(opAssign) {
			if p.is(kwYield) {
				x = p.yield()
			} else {
				x = p.starExprs()
			}
			s.Targets = append(s.Targets, x)
		}
		n := len(s.Targets) - 1
		s.Value, s.Targets = s.Targets[n], s.Targets[:n]
		for _, t := range s.Targets {
			p.assignable(t)
		}
		s.Span = p.span(from)
		return s
	case o >= opAddEq && o <= opFloorEq:
		p.assignable(x)
		p.next()
		s := &AugAssign{Target: x, Op: o.String()}
		if p.is(kwYield) {
			s.Value = p.yield()
		} else {
			s.Value = p.exprList()
		}
		s.Span = p.span(from)
		return s
	case o == opColon:
		p.assignable(x)
		p.next()
		s := &AnnAssign{Target: x, Annotation: p.expr()}
		if p.accept(opAssign) {
			if p.is(kwYield) {
				s.Value = p.yield()
			} else {
				s.Value = p.exprList()
			}
		}
		s.Span = p.span(from)
		return s
	}
	return &ExprStmt{stmtNode{p.span(from)}, x}
}

// assignable fails where a value was written in the place of a target.
func (p *parser) assignable(x Expr) {
	switch x := x.(type) {
	case *Name, *Attribute, *Subscript:
	case *Starred:
		p.assignable(x.X)
	case *Sequence:
		if x.Kind == Set {
			panic(failure{x.Start, "invalid syntax: cannot assign to a set"})
		}
		for _, e := range x.Elts {
			p.assignable(e)
		}
	default:
		panic(failure{x.At().Start, "invalid syntax: cannot assign to this expression"})
	}
}

// matchAhead reports whether the name "match" begins a match statement: its line
// ends in a colon, and what is indented below begins with "case".
func (p *parser) matchAhead() bool {
	i := p.i + 1
	for i < len(p.tokens) && p.tokens[i].kind != tNewline && p.tokens[i].kind != tEOF {
		i++
	}
	if i == p.i+1 || i+2 >= len(p.tokens) || p.tokens[i-1].sub != opColon || p.tokens[i+1].kind != tIndent {
		return false
	}
	t := p.tokens[i+2]
	return t.kind == tName && p.text(t) == "case"
}

func (p *parser) match() Stmt {
	from := p.tok.from
	p.next()
	s := &Match{Subject: p.namedList()}
	p.expect(opColon)
	p.next() // newline and indent, as matchAhead saw
	p.next()
	for p.tok.kind != tDedent && p.tok.kind != tEOF {
		if p.tok.kind == tNewline {
			p.next()
			continue
		}
		if !p.soft("case") {
			p.fail("expected case")
		}
		p.next()
		c := &Case{Pattern: p.patterns()}
		if p.accept(kwIf) {
			c.Guard = p.named()
		}
		c.Body = p.suite()
		s.Cases = append(s.Cases, c)
	}
	end := p.last
	p.next()
	p.last = end
	s.Span = p.span(from)
	return s
}

// patterns reads a pattern that may be a sequence without brackets.
func (p *parser) patterns() *Pattern {
	from := p.tok.from
	x := p.maybeStar()
	if !p.is(opComma) {
		if x.Kind == MatchStar {
			x = &Pattern{Span: p.span(from), Kind: MatchSequence, Sub: []*Pattern{x}}
		}
		return x
	}
	s := &Pattern{Kind: MatchSequence, Sub: []*Pattern{x}}
	for p.accept(opComma) {
		if p.is(opColon) || p.is(kwIf) {
			break
		}
		s.Sub = append(s.Sub, p.maybeStar())
	}
	s.Span = p.span(from)
	return s
}

func (p *parser) maybeStar() *Pattern {
	from := p.tok.from
	if p.accept(opStar) {
		x := &Pattern{Kind: MatchStar, Name: p.capture()}
		x.Span = p.span(from)
		return x
	}
	return p.pattern()
}

// capture reads a name to bind; "_" binds nothing.
func (p *parser) capture() string {
	if s := p.word(); s != "_" {
		return s
	}
	return ""
}

func (p *parser) pattern() *Pattern {
	p.enter()
	defer p.leave()
	from := p.tok.from
	x := p.closed()
	if p.is(opBar) {
		o := &Pattern{Kind: MatchOr, Sub: []*Pattern{x}}
		for p.accept(opBar) {
			o.Sub = append(o.Sub, p.closed())
		}
		o.Span = p.span(from)
		x = o
	}
	if p.accept(kwAs) {
		x = &Pattern{Kind: MatchAs, Name: p.word(), Sub: []*Pattern{x}}
		x.Span = p.span(from)
	}
	return x
}

func (p *parser) closed() *Pattern {
	from := p.tok.from
	x := &Pattern{}
	switch {
	case p.is(kwNone), p.is(kwTrue), p.is(kwFalse):
		x.Kind = MatchSingleton
		p.next()
	case p.tok.kind == tName && p.peek(1).sub != opDot && p.peek(1).sub != opLParen:
		x.Kind, x.Name = MatchAs, p.capture()
	case p.tok.kind == tName:
		x.Value = p.path()
		if p.accept(opLParen) {
			x.Kind = MatchClass
			for !p.is(opRParen) {
				if p.tok.kind == tName && p.peek(1).sub == opAssign {
					x.Names = append(x.Names, p.word())
					p.next()
				}
				x.Sub = append(x.Sub, p.pattern())
				if !p.is(opRParen) {
					p.expect(opComma)
				}
			}
			p.next()
		}
	case p.is(opLParen), p.is(opLBracket):
		return p.group()
	case p.is(opLBrace):
		x.Kind = MatchMapping
		p.next()
		for !p.is(opRBrace) {
			if p.accept(opPow) {
				x.Name = p.word()
			} else {
				if p.tok.kind == tName {
					x.Keys = append(x.Keys, p.path())
				} else {
					x.Keys = append(x.Keys, p.binary(0))
				}
				p.expect(opColon)
				x.Sub = append(x.Sub, p.pattern())
			}
			if !p.is(opRBrace) {
				p.expect(opComma)
			}
		}
		p.next()
	case p.tok.kind == tString, p.tok.kind == tNumber, p.is(opMinus), p.tok.kind == tFStart:
		// A number may be complex: -1 + 2j.
		x.Value = p.binary(level(opPlus))
	default:
		p.fail("expected a pattern")
	}
	x.Span = p.span(from)
	return x
}

// path reads a dotted name as an expression.
func (p *parser) path() Expr {
	from := p.tok.from
	id := p.word()
	var e Expr = &Name{exprNode{p.span(from)}, id}
	for p.accept(opDot) {
		attr := p.word()
		e = &Attribute{exprNode{p.span(from)}, e, attr}
	}
	return e
}

// group reads a pattern within brackets.
func (p *parser) group() *Pattern {
	from := p.tok.from
	end, comma := opRBracket, true
	if p.is(opLParen) {
		end, comma = opRParen, false
	}
	p.next()
	x := &Pattern{Kind: MatchSequence}
	for !p.is(end) {
		x.Sub = append(x.Sub, p.maybeStar())
		if !p.is(end) {
			p.expect(opComma)
			comma = true
		}
	}
	p.next()
	if len(x.Sub) == 1 && !comma && x.Sub[0].Kind != MatchStar {
		return x.Sub[0]
	}
	x.Span = p.span(from)
	return x
}

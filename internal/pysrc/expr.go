package pysrc

// level is how tightly a binary operator binds, -1 for what is none.
func level(o op) int {
	switch o {
	case opBar:
		return 0
	case opCaret:
		return 1
	case opAmp:
		return 2
	case opShl, opShr:
		return 3
	case opPlus, opMinus:
		return 4
	case opStar, opSlash, opFloor, opPercent, opAt:
		return 5
	}
	return -1
}

// starExprs reads what an expression statement may be: a yield, or expressions.
func (p *parser) starExprs() Expr {
	if p.is(kwYield) {
		return p.yield()
	}
	return p.exprList()
}

// exprList reads expressions, starred ones among them; several are a tuple.
func (p *parser) exprList() Expr { return p.list(p.starOrExpr) }

// namedList is the same with := allowed.
func (p *parser) namedList() Expr { return p.list(p.starOrNamed) }

func (p *parser) list(one func() Expr) Expr {
	from := p.tok.from
	x := one()
	if !p.is(opComma) {
		return x
	}
	t := &Sequence{Kind: Tuple, Elts: []Expr{x}}
	for p.accept(opComma) {
		if !p.beginsExpr() {
			break
		}
		t.Elts = append(t.Elts, one())
	}
	t.Span = p.span(from)
	return t
}

// beginsExpr reports whether the next token can begin an expression: after a
// comma that may be the last one.
func (p *parser) beginsExpr() bool {
	switch p.tok.kind {
	case tName, tNumber, tString, tFStart:
		return true
	case tOp:
		switch p.tok.sub {
		case opLParen, opLBracket, opLBrace, opMinus, opPlus, opTilde, opStar, opEllipsis:
			return true
		}
	case tKeyword:
		switch p.tok.sub {
		case kwNone, kwTrue, kwFalse, kwNot, kwLambda, kwAwait, kwYield:
			return true
		}
	case tError:
		return true // so that the error is found
	}
	return false
}

func (p *parser) starOrExpr() Expr {
	if p.is(opStar) {
		return p.starred()
	}
	return p.expr()
}

func (p *parser) starOrNamed() Expr {
	if p.is(opStar) {
		return p.starred()
	}
	return p.named()
}

func (p *parser) starred() Expr {
	from := p.tok.from
	p.next()
	x := p.binary(0)
	return &Starred{exprNode{p.span(from)}, x}
}

func (p *parser) yield() Expr {
	from := p.tok.from
	p.next()
	y := &Yield{}
	if p.accept(kwFrom) {
		y.From = true
		y.X = p.expr()
	} else if p.beginsExpr() {
		y.X = p.exprList()
	}
	y.Span = p.span(from)
	return y
}

// named reads an expression that may be an assignment expression.
func (p *parser) named() Expr {
	if p.tok.kind == tName && p.peek(1).sub == opWalrus {
		from := p.tok.from
		id := p.word()
		n := &NamedExpr{Target: &Name{exprNode{p.span(from)}, id}}
		p.next()
		n.X = p.expr()
		n.Span = p.span(from)
		return n
	}
	return p.expr()
}

// expr reads a conditional expression, lambda or anything that binds tighter.
func (p *parser) expr() Expr {
	p.enter()
	from := p.tok.from
	if p.is(kwLambda) {
		p.next()
		l := &Lambda{Params: p.params(opColon, false)}
		p.expect(opColon)
		l.Body = p.expr()
		l.Span = p.span(from)
		p.leave()
		return l
	}
	x := p.boolean(kwOr)
	if p.is(kwIf) {
		p.next()
		c := &IfExp{Body: x, Test: p.boolean(kwOr)}
		p.expect(kwElse)
		c.Else = p.expr()
		c.Span = p.span(from)
		x = c
	}
	p.leave()
	return x
}

// boolean reads "or" of "and" of "not".
func (p *parser) boolean(o op) Expr {
	from := p.tok.from
	operand := func() Expr {
		if o == kwOr {
			return p.boolean(kwAnd)
		}
		return p.not()
	}
	x := operand()
	if !p.is(o) {
		return x
	}
	b := &BoolOp{Op: o.String(), Values: []Expr{x}}
	for p.accept(o) {
		b.Values = append(b.Values, operand())
	}
	b.Span = p.span(from)
	return b
}

func (p *parser) not() Expr {
	if !p.is(kwNot) {
		return p.comparison()
	}
	p.enter()
	from := p.tok.from
	p.next()
	x := p.not()
	p.leave()
	return &UnaryOp{exprNode{p.span(from)}, "not", x}
}

func (p *parser) comparison() Expr {
	from := p.tok.from
	x := p.binary(0)
	var c *Compare
	for {
		word := ""
		switch p.tok.sub {
		case opLess, opGreater, opEq, opNe, opLe, opGe, kwIn:
			word = p.tok.sub.String()
			p.next()
		case kwIs:
			word = "is"
			p.next()
			if p.accept(kwNot) {
				word = "is not"
			}
		case kwNot:
			if p.peek(1).sub == kwIn {
				word = "not in"
				p.next()
				p.next()
			}
		}
		if word == "" {
			if c != nil {
				c.Span = p.span(from)
				return c
			}
			return x
		}
		if c == nil {
			c = &Compare{Left: x}
		}
		c.Ops = append(c.Ops, word)
		c.Rest = append(c.Rest, p.binary(0))
	}
}

func (p *parser) binary(least int) Expr {
	from := p.tok.from
	x := p.unary()
	for n := 0; ; n++ {
		l := level(p.tok.sub)
		if l < least {
			return x
		}
		if n > maxChain {
			p.fail("too many operators in a row")
		}
		o := p.tok.sub
		p.next()
		y := p.binary(l + 1)
		x = &BinOp{exprNode{p.span(from)}, o.String(), x, y}
	}
}

func (p *parser) unary() Expr {
	switch p.tok.sub {
	case opMinus, opPlus, opTilde:
		p.enter()
		from, o := p.tok.from, p.tok.sub
		p.next()
		x := p.unary()
		p.leave()
		return &UnaryOp{exprNode{p.span(from)}, o.String(), x}
	}
	return p.power()
}

func (p *parser) power() Expr {
	from := p.tok.from
	var x Expr
	if p.is(kwAwait) {
		p.next()
		y := p.primary()
		x = &Await{exprNode{p.span(from)}, y}
	} else {
		x = p.primary()
	}
	if !p.is(opPow) {
		return x
	}
	p.enter()
	p.next()
	y := p.unary()
	p.leave()
	return &BinOp{exprNode{p.span(from)}, "**", x, y}
}

// primary reads an atom with its calls, attributes and subscripts.
func (p *parser) primary() Expr {
	from := p.tok.from
	x := p.atom()
	for n := 0; ; n++ {
		if n > maxChain {
			p.fail("too many attributes or calls in a row")
		}
		switch p.tok.sub {
		case opDot:
			p.next()
			attr := p.word()
			x = &Attribute{exprNode{p.span(from)}, x, attr}
		case opLParen:
			p.next()
			args := p.args()
			x = &Call{exprNode{p.span(from)}, x, args}
		case opLBracket:
			p.next()
			i := p.subscript()
			p.expect(opRBracket)
			x = &Subscript{exprNode{p.span(from)}, x, i}
		default:
			return x
		}
	}
}

// args reads the arguments of a call after its parenthesis, which it closes.
func (p *parser) args() []*Arg {
	open := p.tokens[p.i-1].from
	var out []*Arg
	for !p.is(opRParen) {
		from := p.tok.from
		a := &Arg{}
		switch {
		case p.accept(opStar):
			a.Star = 1
			a.Value = p.expr()
		case p.accept(opPow):
			a.Star = 2
			a.Value = p.expr()
		case p.tok.kind == tName && p.peek(1).sub == opAssign:
			a.Name = p.word()
			p.next()
			a.Value = p.expr()
		default:
			a.Value = p.named()
			if p.is(kwFor) || p.is(kwAsync) {
				c := &Comp{Kind: Generator, Elt: a.Value, For: p.comp()}
				if len(out) == 0 && p.is(opRParen) {
					// The only argument: its parentheses are those of the call.
					c.Span = Span{open, p.tok.to}
				} else {
					c.Span = p.span(from)
				}
				a.Value = c
			}
		}
		a.Span = p.span(from)
		out = append(out, a)
		if !p.is(opRParen) {
			p.expect(opComma)
		}
	}
	p.next()
	return out
}

func (p *parser) subscript() Expr {
	from := p.tok.from
	x := p.slice()
	if !p.is(opComma) {
		if _, ok := x.(*Starred); ok { // x[*y] is x[(*y,)]
			return &Sequence{exprNode{p.span(from)}, Tuple, []Expr{x}}
		}
		return x
	}
	t := &Sequence{Kind: Tuple, Elts: []Expr{x}}
	for p.accept(opComma) {
		if p.is(opRBracket) {
			break
		}
		t.Elts = append(t.Elts, p.slice())
	}
	t.Span = p.span(from)
	return t
}

func (p *parser) slice() Expr {
	from := p.tok.from
	var low Expr
	if !p.is(opColon) {
		low = p.starOrNamed()
	}
	if !p.is(opColon) {
		return low
	}
	p.next()
	s := &Slice{Low: low}
	if !p.is(opColon) && !p.is(opComma) && !p.is(opRBracket) {
		s.High = p.expr()
	}
	if p.accept(opColon) && !p.is(opComma) && !p.is(opRBracket) {
		s.Step = p.expr()
	}
	s.Span = p.span(from)
	return s
}

func (p *parser) atom() Expr {
	from := p.tok.from
	switch p.tok.kind {
	case tName:
		id := p.word()
		return &Name{exprNode{p.span(from)}, id}
	case tNumber:
		c := &Constant{Kind: numberKind(p.text(p.tok)), parts: []literal{{p.text(p.tok)}}}
		p.next()
		c.Span = p.span(from)
		return c
	case tString, tFStart:
		return p.strings()
	}
	k := None
	switch p.tok.sub {
	case opLParen:
		return p.parentheses()
	case opLBracket:
		return p.brackets()
	case opLBrace:
		return p.braces()
	case kwNone:
	case kwTrue:
		k = True
	case kwFalse:
		k = False
	case opEllipsis:
		k = Ellipsis
	default:
		p.fail("expected an expression")
	}
	p.next()
	return &Constant{exprNode: exprNode{p.span(from)}, Kind: k}
}

func (p *parser) parentheses() Expr {
	from := p.tok.from
	p.next()
	if p.accept(opRParen) {
		return &Sequence{exprNode: exprNode{p.span(from)}, Kind: Tuple}
	}
	if p.is(kwYield) {
		x := p.yield()
		p.expect(opRParen)
		return x
	}
	x := p.starOrNamed()
	switch {
	case p.is(kwFor), p.is(kwAsync):
		c := &Comp{Kind: Generator, Elt: x, For: p.comp()}
		p.expect(opRParen)
		c.Span = p.span(from)
		return c
	case p.is(opComma):
		t := &Sequence{Kind: Tuple, Elts: p.rest(x, opRParen)}
		t.Span = p.span(from)
		return t
	}
	p.expect(opRParen)
	if _, ok := x.(*Starred); ok {
		panic(failure{from, "invalid syntax: a starred expression alone in parentheses"})
	}
	return x
}

// rest reads the other elements of a display, with the bracket that ends it.
func (p *parser) rest(first Expr, end op) []Expr {
	out := []Expr{first}
	for p.accept(opComma) {
		if p.is(end) {
			break
		}
		out = append(out, p.starOrNamed())
	}
	p.expect(end)
	return out
}

func (p *parser) brackets() Expr {
	from := p.tok.from
	p.next()
	if p.accept(opRBracket) {
		return &Sequence{exprNode: exprNode{p.span(from)}, Kind: List}
	}
	x := p.starOrNamed()
	if p.is(kwFor) || p.is(kwAsync) {
		c := &Comp{Kind: ListComp, Elt: x, For: p.comp()}
		p.expect(opRBracket)
		c.Span = p.span(from)
		return c
	}
	s := &Sequence{Kind: List, Elts: p.rest(x, opRBracket)}
	s.Span = p.span(from)
	return s
}

// braces reads a set or a dictionary.
func (p *parser) braces() Expr {
	from := p.tok.from
	p.next()
	if p.accept(opRBrace) {
		return &Dict{exprNode: exprNode{p.span(from)}}
	}
	if !p.is(opPow) {
		x := p.starOrNamed()
		switch {
		case p.is(kwFor), p.is(kwAsync):
			c := &Comp{Kind: SetComp, Elt: x, For: p.comp()}
			p.expect(opRBrace)
			c.Span = p.span(from)
			return c
		case !p.is(opColon):
			s := &Sequence{Kind: Set, Elts: p.rest(x, opRBrace)}
			s.Span = p.span(from)
			return s
		}
		p.next()
		v := p.expr()
		if p.is(kwFor) || p.is(kwAsync) {
			c := &Comp{Kind: DictComp, Elt: x, Value: v, For: p.comp()}
			p.expect(opRBrace)
			c.Span = p.span(from)
			return c
		}
		return p.dict(from, &Dict{Keys: []Expr{x}, Values: []Expr{v}})
	}
	return p.dict(from, &Dict{})
}

func (p *parser) dict(from Pos, d *Dict) Expr {
	for len(d.Keys) == 0 || p.accept(opComma) {
		if p.is(opRBrace) {
			break
		}
		if p.accept(opPow) {
			d.Keys = append(d.Keys, nil)
			d.Values = append(d.Values, p.binary(0))
			continue
		}
		d.Keys = append(d.Keys, p.expr())
		p.expect(opColon)
		d.Values = append(d.Values, p.expr())
	}
	p.expect(opRBrace)
	d.Span = p.span(from)
	return d
}

// comp reads the loops of a comprehension.
func (p *parser) comp() []*CompFor {
	var out []*CompFor
	for p.is(kwFor) || p.is(kwAsync) {
		c := &CompFor{Async: p.accept(kwAsync)}
		p.expect(kwFor)
		c.Target = p.targets()
		p.expect(kwIn)
		c.Iter = p.boolean(kwOr)
		for p.accept(kwIf) {
			c.Ifs = append(c.Ifs, p.condition())
		}
		out = append(out, c)
	}
	return out
}

// condition reads a condition of a comprehension, which has no "if" of its own.
func (p *parser) condition() Expr {
	if p.tok.kind == tName && p.peek(1).sub == opWalrus {
		return p.named()
	}
	p.enter()
	defer p.leave()
	if p.is(kwLambda) {
		return p.expr()
	}
	return p.boolean(kwOr)
}

// targets reads the targets of a for loop: what comes before "in".
func (p *parser) targets() Expr {
	from := p.tok.from
	x := p.target()
	if !p.is(opComma) {
		return x
	}
	t := &Sequence{Kind: Tuple, Elts: []Expr{x}}
	for p.accept(opComma) {
		if p.is(kwIn) {
			break
		}
		t.Elts = append(t.Elts, p.target())
	}
	t.Span = p.span(from)
	return t
}

func (p *parser) target() Expr {
	from := p.tok.from
	if p.accept(opStar) {
		x := p.primary()
		p.assignable(x)
		return &Starred{exprNode{p.span(from)}, x}
	}
	x := p.primary()
	p.assignable(x)
	return x
}

package pysrc

import "golang.org/x/text/unicode/norm"

// maxDepth bounds expressions within expressions. CPython's own bound is of the
// same kind, and depends on its version.
const maxDepth = 1500

// maxChain bounds operators and calls in a row, which are nested to the left:
// a.b.c, a + b + c. Who walks the tree goes as deep.
const maxChain = 3_000

// maxErrors is how many statements of one file may be in error: one with more is
// no Python.
const maxErrors = 2000

// parser makes a tree of tokens. An error ends the statement that it is in, by a
// panic with a value of type failure that statement catches.
type parser struct {
	*lexer
	i     int
	tok   token // the one at i
	last  Pos   // the end of the one before
	depth int
	file  *File
}

type failure struct {
	at      Pos
	message string
}

// Parse reads a source file as Python through 3.14. It never fails as a whole:
// what is no Python becomes a Bad statement and an entry in Errors, and what
// follows is read again. src is UTF-8; Decode makes it of other encodings.
func Parse(src string) *File {
	p := &parser{lexer: lex(src), file: &File{}}
	p.tok = p.tokens[0]
	p.file.Body = p.block(true)
	p.file.Comments = p.comments
	p.file.Lines = int(p.line)
	if p.pos == p.lineStart && p.line > 1 {
		p.file.Lines--
	}
	return p.file
}

func (p *parser) next() {
	p.last = p.tok.to
	if p.i < len(p.tokens)-1 {
		p.i++
	}
	p.tok = p.tokens[p.i]
}

// peek is the kind and word of the token after the next n.
func (p *parser) peek(n int) token { return p.tokens[min(p.i+n, len(p.tokens)-1)] }

func (p *parser) text(t token) string { return p.src[t.start:t.end] }

func (p *parser) is(o op) bool { return p.tok.sub == o }

func (p *parser) accept(o op) bool {
	if p.tok.sub == o {
		p.next()
		return true
	}
	return false
}

func (p *parser) expect(o op) {
	if p.tok.sub != o {
		p.fail("expected " + o.String())
	}
	p.next()
}

// fail ends the statement. An error of the lexer at this place says more than
// what the parser would have liked to see.
func (p *parser) fail(message string) {
	at := p.tok.from
	if p.tok.kind == tError {
		message = p.errors[int32(p.i)]
	} else {
		message = "invalid syntax: " + message
	}
	panic(failure{at, message})
}

func (p *parser) span(from Pos) Span { return Span{from, p.last} }

// enter bounds the depth of the tree; leave undoes it.
func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.fail("it is nested too deeply")
	}
}

func (p *parser) leave() { p.depth-- }

// word reads a name that is no keyword.
func (p *parser) word() string {
	if p.tok.kind != tName {
		p.fail("expected a name")
	}
	s := p.ident(p.tok)
	p.next()
	return s
}

func (p *parser) ident(t token) string {
	s := p.text(t)
	for i := range len(s) {
		if s[i] >= 0x80 {
			return norm.NFKC.String(s)
		}
	}
	return s
}

// soft reports whether the next token is a name with this text: a word that is a
// keyword in its place alone.
func (p *parser) soft(word string) bool { return p.tok.kind == tName && p.text(p.tok) == word }

// block reads statements up to the dedent that ends them, or, at the top, the
// end of the file.
func (p *parser) block(top bool) []Stmt {
	var out []Stmt
	for {
		if len(p.file.Errors) >= maxErrors && p.tok.kind != tEOF {
			p.file.Errors = append(p.file.Errors, &SyntaxError{p.tok.from, "too many errors: the rest of the file was left out"})
			p.i = len(p.tokens) - 1
			p.tok = p.tokens[p.i]
		}
		switch p.tok.kind {
		case tEOF:
			return out
		case tDedent:
			if !top {
				return out
			}
			p.next()
			continue
		case tNewline:
			p.next()
			continue
		case tIndent:
			at := p.tok.from
			p.file.Errors = append(p.file.Errors, &SyntaxError{at, "invalid syntax: unexpected indentation"})
			p.next()
			body := p.block(false)
			p.next()
			out = append(out, &Bad{stmtNode{p.span(at)}, "unexpected indentation", body})
			continue
		}
		out = p.statement(out)
	}
}

// statement reads a statement, or the simple statements of a line, and appends
// them to out. One that is in error becomes a Bad one, up to the end of its line
// with what is indented below.
func (p *parser) statement(out []Stmt) (all []Stmt) {
	from, first := p.tok.from, p.i
	depth := p.depth
	all = out
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		f, ok := r.(failure)
		if !ok {
			panic(r)
		}
		p.depth = depth
		p.file.Errors = append(p.file.Errors, &SyntaxError{f.at, f.message})
		bad := &Bad{Message: f.message}
		if p.i == first {
			p.next()
		}
		// The block of a compound statement may have been entered already: what
		// failed is then its own statement, which was caught below.
		for p.tok.kind != tNewline && p.tok.kind != tEOF && p.tok.kind != tIndent && p.tok.kind != tDedent {
			p.next()
		}
		if p.tok.kind == tNewline {
			p.next()
		}
		if p.tok.kind == tIndent {
			p.next()
			bad.Body = p.block(false)
			p.next()
		}
		bad.Span = p.span(from)
		all = append(all, bad)
	}()
	if s := p.compound(); s != nil {
		return append(all, s)
	}
	for {
		all = append(all, p.simple())
		if !p.accept(opSemi) {
			break
		}
		if p.tok.kind == tNewline {
			break
		}
	}
	if p.tok.kind != tNewline && p.tok.kind != tEOF {
		p.fail("expected the end of the statement")
	}
	p.next()
	return all
}

// suite reads the block of a compound statement after its header.
func (p *parser) suite() []Stmt {
	p.expect(opColon)
	if p.tok.kind != tNewline {
		// Statements on the line of the header: compound ones may not stand there.
		var out []Stmt
		for {
			out = append(out, p.simple())
			if !p.accept(opSemi) || p.tok.kind == tNewline {
				break
			}
		}
		if p.tok.kind != tNewline && p.tok.kind != tEOF {
			p.fail("expected the end of the statement")
		}
		end := p.last
		p.next()
		p.last = end
		return out
	}
	p.next()
	if p.tok.kind != tIndent {
		p.fail("expected an indented block")
	}
	p.next()
	p.enter()
	out := p.block(false)
	p.leave()
	// The block ends with its last statement, not with the dedent.
	end := p.last
	if len(out) > 0 {
		end = out[len(out)-1].At().End
	}
	if p.tok.kind == tDedent {
		p.next()
	}
	p.last = end
	return out
}

func (p *parser) compound() Stmt {
	from := p.tok.from
	switch {
	case p.is(opAt):
		return p.decorated()
	case p.is(kwDef):
		return p.function(from, false, nil)
	case p.is(kwClass):
		return p.class(from, nil)
	case p.is(kwAsync):
		p.next()
		switch {
		case p.is(kwDef):
			return p.function(from, true, nil)
		case p.is(kwFor):
			return p.forLoop(from, true)
		case p.is(kwWith):
			return p.with(from, true)
		}
		p.fail("expected def, for or with after async")
	case p.is(kwIf):
		return p.ifStmt()
	case p.is(kwFor):
		return p.forLoop(from, false)
	case p.is(kwWhile):
		p.next()
		s := &While{Test: p.named()}
		s.Body = p.suite()
		s.Else = p.elseSuite()
		s.Span = p.span(from)
		return s
	case p.is(kwTry):
		return p.try()
	case p.is(kwWith):
		return p.with(from, false)
	case p.tok.kind == tName && p.text(p.tok) == "match" && p.matchAhead():
		return p.match()
	}
	return nil
}

func (p *parser) decorated() Stmt {
	var decorators []Expr
	for p.accept(opAt) {
		decorators = append(decorators, p.named())
		if p.tok.kind != tNewline {
			p.fail("expected the end of the line after a decorator")
		}
		p.next()
	}
	from := p.tok.from
	switch {
	case p.is(kwClass):
		return p.class(from, decorators)
	case p.is(kwDef):
		return p.function(from, false, decorators)
	case p.is(kwAsync):
		p.next()
		if p.is(kwDef) {
			return p.function(from, true, decorators)
		}
	}
	p.fail("expected a function or class after its decorators")
	return nil
}

func (p *parser) function(from Pos, async bool, decorators []Expr) Stmt {
	p.expect(kwDef)
	f := &FunctionDef{Name: p.word(), Async: async, Decorators: decorators, TypeParams: p.typeParams()}
	p.expect(opLParen)
	f.Params = p.params(opRParen, true)
	p.expect(opRParen)
	if p.accept(opArrow) {
		f.Returns = p.exprList()
	}
	f.Body = p.suite()
	f.Span = p.span(from)
	return f
}

// params reads parameters up to the token that ends them.
func (p *parser) params(end op, annotated bool) []*Param {
	var out []*Param
	for !p.is(end) {
		from := p.tok.from
		q := &Param{}
		switch {
		case p.accept(opSlash):
			if !p.is(end) {
				p.expect(opComma)
			}
			continue
		case p.accept(opStar):
			q.Star = 1
			if p.is(opComma) {
				p.next()
				continue
			}
			from = p.tok.from
		case p.accept(opPow):
			q.Star = 2
			from = p.tok.from
		}
		q.Name = p.word()
		if annotated && p.accept(opColon) {
			if q.Star == 1 && p.is(opStar) {
				at := p.tok.from
				p.next()
				x := p.binary(0)
				q.Annotation = &Starred{exprNode{p.span(at)}, x}
			} else {
				q.Annotation = p.expr()
			}
		}
		q.Span = p.span(from)
		if q.Star == 0 && p.accept(opAssign) {
			q.Default = p.expr()
		}
		out = append(out, q)
		if !p.is(end) {
			p.expect(opComma)
		}
	}
	return out
}

func (p *parser) typeParams() []*TypeParam {
	if !p.accept(opLBracket) {
		return nil
	}
	var out []*TypeParam
	for {
		from := p.tok.from
		t := &TypeParam{}
		if p.accept(opStar) {
			t.Star = 1
		} else if p.accept(opPow) {
			t.Star = 2
		}
		t.Name = p.word()
		if t.Star == 0 && p.accept(opColon) {
			t.Bound = p.expr()
		}
		if p.accept(opAssign) {
			if t.Star == 1 {
				t.Default = p.starOrNamed()
			} else {
				t.Default = p.expr()
			}
		}
		t.Span = p.span(from)
		out = append(out, t)
		if !p.accept(opComma) || p.is(opRBracket) {
			break
		}
	}
	p.expect(opRBracket)
	return out
}

func (p *parser) class(from Pos, decorators []Expr) Stmt {
	p.expect(kwClass)
	c := &ClassDef{Name: p.word(), Decorators: decorators, TypeParams: p.typeParams()}
	if p.accept(opLParen) {
		c.Args = p.args()
	}
	c.Body = p.suite()
	c.Span = p.span(from)
	return c
}

func (p *parser) elseSuite() []Stmt {
	if !p.accept(kwElse) {
		return nil
	}
	return p.suite()
}

func (p *parser) ifStmt() Stmt {
	s := &If{}
	from := p.tok.from
	for {
		b := &Branch{Start: p.tok.from}
		p.next()
		b.Test = p.named()
		b.Body = p.suite()
		s.Branches = append(s.Branches, b)
		if !p.is(kwElif) {
			break
		}
	}
	s.Else = p.elseSuite()
	s.Span = p.span(from)
	return s
}

func (p *parser) forLoop(from Pos, async bool) Stmt {
	p.expect(kwFor)
	s := &For{Async: async, Target: p.targets()}
	p.expect(kwIn)
	s.Iter = p.exprList()
	s.Body = p.suite()
	s.Else = p.elseSuite()
	s.Span = p.span(from)
	return s
}

func (p *parser) try() Stmt {
	from := p.tok.from
	p.next()
	s := &Try{Body: p.suite()}
	for p.is(kwExcept) {
		h := &Handler{}
		at := p.tok.from
		p.next()
		if p.accept(opStar) {
			s.Star = true
		}
		if !p.is(opColon) {
			start := p.tok.from
			h.Type = p.expr()
			if p.is(opComma) { // PEP 758
				t := &Sequence{Kind: Tuple, Elts: []Expr{h.Type}}
				for p.accept(opComma) {
					if p.is(opColon) {
						break
					}
					t.Elts = append(t.Elts, p.expr())
				}
				t.Span = p.span(start)
				h.Type = t
			}
			if p.accept(kwAs) {
				h.Name = p.word()
			}
		}
		h.Body = p.suite()
		h.Span = p.span(at)
		s.Handlers = append(s.Handlers, h)
	}
	if len(s.Handlers) > 0 {
		s.Else = p.elseSuite()
	}
	if p.accept(kwFinally) {
		s.Finally = p.suite()
	} else if len(s.Handlers) == 0 {
		p.fail("expected except or finally")
	}
	s.Span = p.span(from)
	return s
}

func (p *parser) with(from Pos, async bool) Stmt {
	p.expect(kwWith)
	s := &With{Async: async}
	if p.is(opLParen) && p.tokens[p.closing()+1].sub == opColon && p.attempt(func() { s.Items = p.parenthesised() }) {
		s.Body = p.suite()
		s.Span = p.span(from)
		return s
	}
	s.Items = nil
	for {
		w := &WithItem{Context: p.expr()}
		if p.accept(kwAs) {
			w.Target = p.target()
		}
		s.Items = append(s.Items, w)
		if !p.accept(opComma) {
			break
		}
	}
	s.Body = p.suite()
	s.Span = p.span(from)
	return s
}

// parenthesised reads the items of a with statement within parentheses.
func (p *parser) parenthesised() []*WithItem {
	var out []*WithItem
	p.expect(opLParen)
	for {
		w := &WithItem{Context: p.expr()}
		if p.accept(kwAs) {
			w.Target = p.target()
		}
		out = append(out, w)
		if !p.accept(opComma) || p.is(opRParen) {
			break
		}
	}
	p.expect(opRParen)
	if !p.is(opColon) {
		p.fail("expected :")
	}
	return out
}

// closing is the index of the token that closes the bracket which is next, or of
// the last one.
func (p *parser) closing() int {
	depth := 0
	for i := p.i; i < len(p.tokens)-1; i++ {
		switch p.tokens[i].sub {
		case opLParen, opLBracket, opLBrace:
			depth++
		case opRParen, opRBracket, opRBrace:
			if depth--; depth == 0 {
				return i
			}
		}
		if k := p.tokens[i].kind; k == tNewline || k == tError {
			break
		}
	}
	return len(p.tokens) - 2
}

// attempt runs f; where that fails, it goes back to where it began and returns false.
func (p *parser) attempt(f func()) (ok bool) {
	i, tok, last, depth := p.i, p.tok, p.last, p.depth
	defer func() {
		if r := recover(); r != nil {
			if _, is := r.(failure); !is {
				panic(r)
			}
			p.i, p.tok, p.last, p.depth = i, tok, last, depth
			ok = false
		}
	}()
	f()
	return true
}

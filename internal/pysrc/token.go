package pysrc

type kind uint8

const (
	tEOF kind = iota
	tNewline
	tIndent
	tDedent
	tName
	tNumber
	tString
	tFStart  // an f-string's or t-string's prefix and quotes
	tFMiddle // its text
	tFEnd
	tOp
	tKeyword
	tError
)

// token is a token with its place: bytes of the source, and lines and columns.
type token struct {
	kind       kind
	sub        op // of tOp and tKeyword
	start, end int32
	from, to   Pos
}

// op is an operator or a keyword.
type op uint8

// Operators; the texts stand in opText in the same order.
const (
	opNone op = iota
	opLParen
	opRParen
	opLBracket
	opRBracket
	opLBrace
	opRBrace
	opComma
	opColon
	opDot
	opSemi
	opAt
	opAssign
	opArrow
	opPlus
	opMinus
	opStar
	opSlash
	opPercent
	opAmp
	opBar
	opCaret
	opTilde
	opLess
	opGreater
	opEq
	opNe
	opLe
	opGe
	opShl
	opShr
	opPow
	opFloor
	opAddEq
	opSubEq
	opMulEq
	opDivEq
	opModEq
	opAndEq
	opOrEq
	opXorEq
	opAtEq
	opShrEq
	opShlEq
	opPowEq
	opFloorEq
	opWalrus
	opEllipsis
	opBang
	kwFalse
	kwNone
	kwTrue
	kwAnd
	kwAs
	kwAssert
	kwAsync
	kwAwait
	kwBreak
	kwClass
	kwContinue
	kwDef
	kwDel
	kwElif
	kwElse
	kwExcept
	kwFinally
	kwFor
	kwFrom
	kwGlobal
	kwIf
	kwImport
	kwIn
	kwIs
	kwLambda
	kwNonlocal
	kwNot
	kwOr
	kwPass
	kwRaise
	kwReturn
	kwTry
	kwWhile
	kwWith
	kwYield
)

var opText = [...]string{"", "(", ")", "[", "]", "{", "}", ",", ":", ".", ";", "@", "=", "->", "+", "-", "*", "/", "%", "&", "|", "^", "~", "<", ">",
	"==", "!=", "<=", ">=", "<<", ">>", "**", "//", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "@=", ">>=", "<<=", "**=", "//=", ":=", "...", "!",
	"False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else", "except", "finally",
	"for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield"}

func (o op) String() string { return opText[o] }

var keywords = func() map[string]op {
	m := make(map[string]op, 35)
	for o := kwFalse; o <= kwYield; o++ {
		m[opText[o]] = o
	}
	return m
}()

func keyword(s string) op {
	if len(s) < 2 || len(s) > 8 {
		return opNone
	}
	return keywords[s]
}

// statementWords are the keywords that begin a statement and stand in no
// expression: one that begins a line within brackets says that they were never
// closed.
func (o op) beginsStatement() bool {
	switch o {
	case kwDef, kwClass, kwImport, kwReturn, kwRaise, kwWhile, kwWith, kwTry, kwDel, kwGlobal, kwNonlocal, kwPass, kwBreak, kwContinue, kwAssert, kwExcept, kwFinally, kwElif:
		return true
	}
	return false
}

// operator reads the longest operator at the start of s; n is 0 where there is
// none.
func operator(s string) (o op, n int) {
	c := s[0]
	var d, e byte
	if len(s) > 1 {
		d = s[1]
	}
	if len(s) > 2 {
		e = s[2]
	}
	eq := func(plain, assigned op) (op, int) {
		if d == '=' {
			return assigned, 2
		}
		return plain, 1
	}
	twice := func(plain, assigned, double, doubleAssigned op) (op, int) {
		if d == c {
			if e == '=' && doubleAssigned != opNone {
				return doubleAssigned, 3
			}
			return double, 2
		}
		return eq(plain, assigned)
	}
	switch c {
	case '(':
		return opLParen, 1
	case ')':
		return opRParen, 1
	case '[':
		return opLBracket, 1
	case ']':
		return opRBracket, 1
	case '{':
		return opLBrace, 1
	case '}':
		return opRBrace, 1
	case ',':
		return opComma, 1
	case ';':
		return opSemi, 1
	case '~':
		return opTilde, 1
	case ':':
		return eq(opColon, opWalrus)
	case '.':
		if d == '.' && e == '.' {
			return opEllipsis, 3
		}
		return opDot, 1
	case '@':
		return eq(opAt, opAtEq)
	case '=':
		return eq(opAssign, opEq)
	case '!':
		return eq(opBang, opNe)
	case '+':
		return eq(opPlus, opAddEq)
	case '-':
		if d == '>' {
			return opArrow, 2
		}
		return eq(opMinus, opSubEq)
	case '%':
		return eq(opPercent, opModEq)
	case '&':
		return eq(opAmp, opAndEq)
	case '|':
		return eq(opBar, opOrEq)
	case '^':
		return eq(opCaret, opXorEq)
	case '*':
		return twice(opStar, opMulEq, opPow, opPowEq)
	case '/':
		return twice(opSlash, opDivEq, opFloor, opFloorEq)
	case '<':
		return twice(opLess, opLe, opShl, opShlEq)
	case '>':
		return twice(opGreater, opGe, opShr, opShrEq)
	}
	return opNone, 0
}

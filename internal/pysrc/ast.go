package pysrc

// Pos is a place in a source file.
type Pos struct {
	// Line is 1 or more; Col counts bytes of UTF-8 from 0, as CPython's ast does.
	Line, Col int32
}

// Span is the part of a source file that a node covers; End is exclusive.
type Span struct{ Start, End Pos }

// At returns the span.
func (s *Span) At() Span { return *s }

// Node is a part of the tree.
type Node interface{ At() Span }

// Expr is an expression.
type Expr interface {
	Node
	expr()
}

// Stmt is a statement.
type Stmt interface {
	Node
	stmt()
}

type (
	exprNode struct{ Span }
	stmtNode struct{ Span }
)

func (*exprNode) expr() {}
func (*stmtNode) stmt() {}

// Expressions. Names and meanings are those of CPython's ast module.
type (
	// Name is an identifier, in Unicode's form NFKC as Python compares them.
	Name struct {
		exprNode
		ID string
	}
	// Attribute is X.Attr.
	Attribute struct {
		exprNode
		X    Expr
		Attr string
	}
	// Call is Func(Args).
	Call struct {
		exprNode
		Func Expr
		Args []*Arg
	}
	// Arg is one argument of a call or class: a value, with a name where it was
	// given by one. Star is 1 for *value, 2 for **value.
	Arg struct {
		Span
		Name  string
		Star  int
		Value Expr
	}
	// Constant is a number, text or one of None, True, False and "...".
	Constant struct {
		exprNode
		Kind  ConstantKind
		parts []literal
	}
	// JoinedStr is an f-string or t-string, with all that is joined to it.
	JoinedStr struct {
		exprNode
		Template bool
		// Values are the replacement fields.
		Values []*FormattedValue
	}
	// FormattedValue is a replacement field of an f-string; Spec are those
	// within its format.
	FormattedValue struct {
		exprNode
		X    Expr
		Spec []*FormattedValue
	}
	// Subscript is X[Index].
	Subscript struct {
		exprNode
		X, Index Expr
	}
	// Slice is Low:High:Step, each of them nil where absent.
	Slice struct {
		exprNode
		Low, High, Step Expr
	}
	// Sequence is a tuple, list or set display.
	Sequence struct {
		exprNode
		Kind SequenceKind
		Elts []Expr
	}
	// Dict is a dictionary display; the key of a **value is nil.
	Dict struct {
		exprNode
		Keys, Values []Expr
	}
	// BinOp is X Op Y.
	BinOp struct {
		exprNode
		Op   string
		X, Y Expr
	}
	// UnaryOp is Op X, with Op one of not - + ~.
	UnaryOp struct {
		exprNode
		Op string
		X  Expr
	}
	// BoolOp is Values joined by "and" or "or".
	BoolOp struct {
		exprNode
		Op     string
		Values []Expr
	}
	// Compare is Left Ops[0] Rest[0] Ops[1] Rest[1] ...
	Compare struct {
		exprNode
		Left Expr
		Ops  []string
		Rest []Expr
	}
	// IfExp is Body if Test else Else.
	IfExp struct {
		exprNode
		Test, Body, Else Expr
	}
	// Lambda is a function of one expression.
	Lambda struct {
		exprNode
		Params []*Param
		Body   Expr
	}
	// Comp is a comprehension or generator expression. Value is that of a
	// dictionary's, else nil.
	Comp struct {
		exprNode
		Kind       CompKind
		Elt, Value Expr
		For        []*CompFor
	}
	// CompFor is one "for" of a comprehension with its conditions.
	CompFor struct {
		Async        bool
		Target, Iter Expr
		Ifs          []Expr
	}
	// Await is await X.
	Await struct {
		exprNode
		X Expr
	}
	// Yield is yield X or yield from X; X may be nil.
	Yield struct {
		exprNode
		From bool
		X    Expr
	}
	// Starred is *X.
	Starred struct {
		exprNode
		X Expr
	}
	// NamedExpr is Target := X.
	NamedExpr struct {
		exprNode
		Target *Name
		X      Expr
	}
)

// ConstantKind says what a constant is.
type ConstantKind uint8

// The kinds of constants.
const (
	None ConstantKind = iota
	True
	False
	Ellipsis
	Int
	Float
	Imaginary
	String
	Bytes
)

// SequenceKind says what a display makes.
type SequenceKind uint8

// The kinds of displays.
const (
	Tuple SequenceKind = iota
	List
	Set
)

// CompKind says what a comprehension makes.
type CompKind uint8

// The kinds of comprehensions.
const (
	Generator CompKind = iota
	ListComp
	SetComp
	DictComp
)

// Statements.
type (
	// ExprStmt is an expression for its effect.
	ExprStmt struct {
		stmtNode
		X Expr
	}
	// Assign is Targets[0] = Targets[1] = ... = Value.
	Assign struct {
		stmtNode
		Targets []Expr
		Value   Expr
	}
	// AugAssign is Target Op Value, with Op "+=" and so on.
	AugAssign struct {
		stmtNode
		Target Expr
		Op     string
		Value  Expr
	}
	// AnnAssign is Target: Annotation = Value; Value may be nil.
	AnnAssign struct {
		stmtNode
		Target, Annotation, Value Expr
	}
	// FunctionDef is a def, with its span from "def" or "async" on.
	FunctionDef struct {
		stmtNode
		Name       string
		Async      bool
		Decorators []Expr
		TypeParams []*TypeParam
		Params     []*Param
		Returns    Expr
		Body       []Stmt
	}
	// Param is a parameter of a function. Star is 1 for *args, 2 for **kwargs.
	Param struct {
		Span
		Name                string
		Star                int
		Annotation, Default Expr
	}
	// TypeParam is a type parameter. Star is 1 for *Ts, 2 for **P.
	TypeParam struct {
		Span
		Name           string
		Star           int
		Bound, Default Expr
	}
	// ClassDef is a class.
	ClassDef struct {
		stmtNode
		Name       string
		Decorators []Expr
		TypeParams []*TypeParam
		Args       []*Arg
		Body       []Stmt
	}
	// Return is return X; X may be nil.
	Return struct {
		stmtNode
		X Expr
	}
	// Delete is del Targets.
	Delete struct {
		stmtNode
		Targets []Expr
	}
	// For is a for loop.
	For struct {
		stmtNode
		Async        bool
		Target, Iter Expr
		Body, Else   []Stmt
	}
	// While is a while loop.
	While struct {
		stmtNode
		Test       Expr
		Body, Else []Stmt
	}
	// If has one branch for "if" and for each "elif": flat, so that a chain of
	// thousands is not thousands deep.
	If struct {
		stmtNode
		Branches []*Branch
		Else     []Stmt
	}
	// Branch is one condition of an If with what it guards.
	Branch struct {
		Start Pos
		Test  Expr
		Body  []Stmt
	}
	// With is a with statement.
	With struct {
		stmtNode
		Async bool
		Items []*WithItem
		Body  []Stmt
	}
	// WithItem is Context as Target; Target may be nil.
	WithItem struct{ Context, Target Expr }
	// Match is a match statement.
	Match struct {
		stmtNode
		Subject Expr
		Cases   []*Case
	}
	// Case is one case of a match; Guard may be nil.
	Case struct {
		Pattern *Pattern
		Guard   Expr
		Body    []Stmt
	}
	// Pattern is a pattern of a case: what it compares with, binds and nests.
	Pattern struct {
		Span
		Kind PatternKind
		// Name is what the pattern binds, empty where it binds nothing.
		Name string
		// Value is a value pattern's, or a class pattern's class.
		Value Expr
		// Keys are those of a mapping pattern.
		Keys []Expr
		// Names are the keywords of a class pattern, for the last of Sub.
		Names []string
		Sub   []*Pattern
	}
	// Raise is raise X from Cause; both may be nil.
	Raise struct {
		stmtNode
		X, Cause Expr
	}
	// Try is a try statement; Star for except*.
	Try struct {
		stmtNode
		Star                bool
		Body, Else, Finally []Stmt
		Handlers            []*Handler
	}
	// Handler is except Type as Name; Type may be nil.
	Handler struct {
		Span
		Type Expr
		Name string
		Body []Stmt
	}
	// Assert is assert Test, Message; Message may be nil.
	Assert struct {
		stmtNode
		Test, Message Expr
	}
	// Import is import Names.
	Import struct {
		stmtNode
		Names []*Alias
	}
	// ImportFrom is from ..Module import Names, with Level dots. A star import
	// has one name, "*".
	ImportFrom struct {
		stmtNode
		Module string
		Level  int
		Names  []*Alias
	}
	// Alias is Name as As; As is empty where it was not given.
	Alias struct {
		Span
		Name, As string
	}
	// Global is global or nonlocal Names.
	Global struct {
		stmtNode
		Nonlocal bool
		Names    []string
	}
	// Simple is pass, break or continue.
	Simple struct {
		stmtNode
		Word string
	}
	// TypeAlias is type Name[TypeParams] = Value.
	TypeAlias struct {
		stmtNode
		Name       *Name
		TypeParams []*TypeParam
		Value      Expr
	}
	// Bad is a statement that could not be parsed; Body is what is indented
	// below it.
	Bad struct {
		stmtNode
		Message string
		Body    []Stmt
	}
)

// PatternKind says what a pattern matches.
type PatternKind uint8

// The kinds of patterns.
const (
	MatchValue PatternKind = iota
	MatchSingleton
	MatchSequence
	MatchMapping
	MatchClass
	MatchStar
	MatchAs
	MatchOr
)

// File is a parsed source file.
type File struct {
	Body     []Stmt
	Comments []Comment
	// Errors are what could not be parsed, in the order of the file.
	Errors []*SyntaxError
	// Lines is how many lines the file has.
	Lines int
}

// Comment is a comment with its leading #.
type Comment struct {
	Pos
	Text string
	// Alone: nothing else stands on its line.
	Alone bool
}

// SyntaxError is a place that could not be parsed.
type SyntaxError struct {
	Pos
	Message string
}

func (e *SyntaxError) Error() string { return e.Message }

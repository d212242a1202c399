package pysrc

import (
	"encoding/hex"
	"fmt"
	"strings"
)

var operators = map[string]string{"+": "Add", "-": "Sub", "*": "Mult", "/": "Div", "//": "FloorDiv", "%": "Mod", "@": "MatMult", "**": "Pow", "<<": "LShift", ">>": "RShift",
	"|": "BitOr", "&": "BitAnd", "^": "BitXor", "and": "And", "or": "Or", "==": "Eq", "!=": "NotEq", "<": "Lt", ">": "Gt", "<=": "LtE", ">=": "GtE", "in": "In", "not in": "NotIn",
	"is": "Is", "is not": "IsNot"}

// dump writes a tree as testdata/dump.py does, a line per node; fields says
// whether what stands within f-strings is told.
func dump(f *File, fields bool) []string {
	var out []string
	put := func(s Span, kind, name string) {
		out = append(out, fmt.Sprintf("%d:%d-%d:%d %s %s", s.Start.Line, s.Start.Col, s.End.Line, s.End.Col, kind, name))
	}
	aliases := func(all []*Alias) string {
		var names []string
		for _, a := range all {
			names = append(names, a.Name+":"+a.As)
		}
		return strings.Join(names, ",")
	}
	async := func(is bool, kind string) string {
		if is {
			return "Async" + kind
		}
		return kind
	}
	templates := make(map[*FormattedValue]bool)
	visit := func(n Node) bool {
		s := n.At()
		switch n := n.(type) {
		case *Name:
			put(s, "Name", n.ID)
		case *Attribute:
			put(s, "Attribute", n.Attr)
		case *Call:
			put(s, "Call", "")
		case *Arg:
			switch {
			case n.Name != "":
				put(s, "keyword", n.Name)
			case n.Star == 2:
				put(s, "keyword", "**")
			case n.Star == 1:
				put(s, "Starred", "")
			}
		case *Constant:
			name := ""
			switch n.Kind {
			case String:
				name = "s" + hex.EncodeToString([]byte(n.Value()))
				for _, p := range n.parts {
					if strings.Contains(p.raw, `\N{`) {
						name = "?"
					}
				}
			case Bytes:
				name = "b" + hex.EncodeToString([]byte(n.Value()))
			case Int:
				name = "int"
			case Float:
				name = "float"
			case Imaginary:
				name = "complex"
			default:
				name = n.Value()
			}
			put(s, "Constant", name)
		case *JoinedStr:
			if n.Template {
				for _, v := range n.Values {
					templates[v] = true
				}
				put(s, "TemplateStr", "")
			} else {
				put(s, "JoinedStr", "")
			}
			return fields
		case *FormattedValue:
			if templates[n] {
				put(s, "Interpolation", "")
			} else {
				put(s, "FormattedValue", "")
			}
		case *Subscript:
			put(s, "Subscript", "")
		case *Slice:
			put(s, "Slice", "")
		case *Sequence:
			put(s, []string{"Tuple", "List", "Set"}[n.Kind], "")
		case *Dict:
			put(s, "Dict", "")
		case *BinOp:
			put(s, "BinOp", operators[n.Op])
		case *UnaryOp:
			put(s, "UnaryOp", map[string]string{"not": "Not", "-": "USub", "+": "UAdd", "~": "Invert"}[n.Op])
		case *BoolOp:
			put(s, "BoolOp", operators[n.Op])
		case *Compare:
			var ops []string
			for _, o := range n.Ops {
				ops = append(ops, operators[o])
			}
			put(s, "Compare", strings.Join(ops, ","))
		case *IfExp:
			put(s, "IfExp", "")
		case *Lambda:
			put(s, "Lambda", "")
		case *Comp:
			put(s, []string{"GeneratorExp", "ListComp", "SetComp", "DictComp"}[n.Kind], "")
		case *Await:
			put(s, "Await", "")
		case *Yield:
			if n.From {
				put(s, "YieldFrom", "")
			} else {
				put(s, "Yield", "")
			}
		case *Starred:
			put(s, "Starred", "")
		case *NamedExpr:
			put(s, "NamedExpr", "")
		case *ExprStmt:
			put(s, "Expr", "")
		case *Assign:
			put(s, "Assign", "")
		case *AugAssign:
			put(s, "AugAssign", operators[strings.TrimSuffix(n.Op, "=")])
		case *AnnAssign:
			put(s, "AnnAssign", "")
		case *FunctionDef:
			put(s, async(n.Async, "FunctionDef"), n.Name)
		case *Param:
			put(s, "arg", n.Name)
		case *TypeParam:
			put(s, []string{"TypeVar", "TypeVarTuple", "ParamSpec"}[n.Star], n.Name)
		case *ClassDef:
			put(s, "ClassDef", n.Name)
		case *Return:
			put(s, "Return", "")
		case *Delete:
			put(s, "Delete", "")
		case *For:
			put(s, async(n.Async, "For"), "")
		case *While:
			put(s, "While", "")
		case *If:
			for _, b := range n.Branches {
				put(Span{b.Start, s.End}, "If", "")
			}
		case *With:
			put(s, async(n.Async, "With"), "")
		case *Match:
			put(s, "Match", "")
		case *Pattern:
			name := n.Name
			if n.Kind == MatchClass {
				name = strings.Join(n.Names, ",")
			}
			put(s, []string{"MatchValue", "MatchSingleton", "MatchSequence", "MatchMapping", "MatchClass", "MatchStar", "MatchAs", "MatchOr"}[n.Kind], name)
		case *Raise:
			put(s, "Raise", "")
		case *Try:
			if n.Star {
				put(s, "TryStar", "")
			} else {
				put(s, "Try", "")
			}
		case *Handler:
			put(s, "ExceptHandler", n.Name)
		case *Assert:
			put(s, "Assert", "")
		case *Import:
			put(s, "Import", aliases(n.Names))
		case *ImportFrom:
			put(s, "ImportFrom", strings.Repeat(".", n.Level)+n.Module+":"+aliases(n.Names))
		case *Global:
			kind := "Global"
			if n.Nonlocal {
				kind = "Nonlocal"
			}
			put(s, kind, strings.Join(n.Names, ","))
		case *Simple:
			put(s, map[string]string{"pass": "Pass", "break": "Break", "continue": "Continue"}[n.Word], "")
		case *TypeAlias:
			put(s, "TypeAlias", "")
		case *Bad:
			put(s, "Bad", n.Message)
		}
		return true
	}
	for _, s := range f.Body {
		Walk(s, visit)
	}
	return out
}

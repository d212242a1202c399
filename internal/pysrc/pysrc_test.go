package pysrc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestErrors has sources with errors: each is told with its place, and what
// follows is read again.
func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		src  string
		want string // the errors' places
		defs string // the names that are still bound by statements
	}{
		{"x = (1,\ndef f():\n    pass\ny = 1\n", "2:1", "f y"},
		{"x = [1,\n    import os\ny = 1\n", "2:1", "y"},
		{"def f(:\n    a = 1\n    b = 2\ny = 1\n", "1:7", "y"},
		{"if x\n    a = 1\ny = 1\n", "1:5", "y"},
		{"class A:\n    def f(self):\n        return 1 +\n    def g(self): pass\nz = 1\n", "3:19", "A z"},
		{"x = 1\n    y = 2\nz = 3\n", "2:5", "x z"},
		{"if x:\n        a = 1\n    b = 2\nz = 3\n", "3:5", "z"},
		{"x = 'abc\ny = 1\n", "1:5", "y"},
		{"x = '''abc\ny = 1\n", "1:5", "y"},
		{"x = f'{a\ny = 1\n", "1:5", "y"},
		{"x = f'{a!}'\ny = 1\n", "1:10", "y"},
		{"x = f'}'\ny = 1\n", "1:7", "y"},
		{"x = f'{a:{b}'\ny = 1\n", "1:13", "y"},
		{"x = f'{'\ny = 1\n", "1:8", "y"},
		{"print 'a'\ny = 1\n", "1:7", "y"},
		{"exec 'a' in b\ny = 1\n", "1:6", "y"},
		{"raise A, 'b'\ny = 1\n", "1:8", "y"},
		{"f() = 1\ny = 1\n", "1:1", "y"},
		{"x = 1 2\ny = 1\n", "1:7", "x y"},
		{"x = )\ny = 1\n", "1:5", "y"},
		{"x = (]\ny = 1\n", "1:6", "y"},
		{"x = g(1,\ny = 2\nz = 3\n", "1:9", "y z"},
		{"try:\n    a = 1\ny = 1\n", "3:1", ""},
		{"def f():\ny = 1\n", "2:1", ""},
		{"x = $\ny = 1\n", "1:5", "y"},
		{"x = 1 \\ 2\ny = 1\n", "1:7", "x y"},
		{"if x:\n\ta = 1\n        b = 1\ny = 1\n", "3:9", "y"},
		{"for in y:\n    pass\nz = 1\n", "1:5", "z"},
		{"match x:\n    case 1 +:\n        pass\nz = 1\n", "2:13", "z"},
		{"@a\nx = 1\nz = 1\n", "2:1", "z"},
		{"from import a\nz = 1\n", "1:6", "z"},
		{"x: int: int\nz = 1\n", "1:7", "z"},
		{"(*a)\nz = 1\n", "1:1", "z"},
		{"b'a' 'b'\nz = 1\n", "1:6", "z"},
		{"\x00\nz = 1\n", "1:1", "z"},
		{"<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> b\nz = 1\n", "1:1 3:1 5:1", "x x z"},
	} {
		f := Parse(tt.src)
		var at, defs []string
		for _, e := range f.Errors {
			at = append(at, fmt.Sprintf("%d:%d", e.Line, e.Col+1))
		}
		for _, s := range f.Body {
			switch s := s.(type) {
			case *Assign:
				if n, ok := s.Targets[0].(*Name); ok {
					defs = append(defs, n.ID)
				}
			case *FunctionDef:
				defs = append(defs, s.Name)
			case *ClassDef:
				defs = append(defs, s.Name)
			}
		}
		if got := strings.Join(at, " "); got != tt.want || strings.Join(defs, " ") != tt.defs {
			t.Errorf("%q: errors at %q, want %q; defined %q, want %q\n%v", tt.src, got, tt.want, defs, tt.defs, f.Errors)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct{ src, text, bad string }{
		{"x = 'é'\n", "x = 'é'\n", ""},
		{"\xef\xbb\xbfx = 1\n", "x = 1\n", ""},
		{"# coding: latin-1\n'\xe9'\n", "# coding: latin-1\n'é'\n", ""},
		{"#!/bin/sh\n# -*- coding: cp1252 -*-\n'\x80'\n", "#!/bin/sh\n# -*- coding: cp1252 -*-\n'€'\n", ""},
		{"x = 1\n\n# coding: latin-1\n'\xe9'\n", "x = 1\n\n# coding: latin-1\n'\ufffd'\n", "4:2"},
		{"x = '\xff'\n", "x = '\ufffd'\n", "1:6"},
		{"# coding: klingon\n", "# coding: klingon\n", "1:11"},
		{"\xef\xbb\xbf# coding: latin-1\n", "# coding: latin-1\n", "1:11"},
		{"x = 1\x00\n", "x = 1\x00\n", "1:6"},
		{"\xff\xfex\x00=\x001\x00\n\x00", "\ufffdx\x00=\x001\x00\n\x00", "1:1"},
		{"", "", ""},
	} {
		text, bad := Decode([]byte(tt.src))
		at := ""
		if bad != nil {
			at = fmt.Sprintf("%d:%d", bad.Line, bad.Col+1)
		}
		if text != tt.text || at != tt.bad {
			t.Errorf("%q: %q, error at %q (%v), want %q, %q", tt.src, text, at, bad, tt.text, tt.bad)
		}
	}
}

func TestComments(t *testing.T) {
	f := Parse("# a\nx = 1  # b\n\n    # c\nf(  # d\n)\ns = '# no'\n")
	var got []string
	for _, c := range f.Comments {
		got = append(got, fmt.Sprintf("%d:%d %s %t", c.Line, c.Col, c.Text, c.Alone))
	}
	if want := "1:0 # a true|2:7 # b false|4:4 # c true|5:4 # d false"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// hostile are sources that nest without end, or are long; each must be read in
// time that grows with its length alone, and without growing the stack beyond
// what Go has.
func hostile(n int) map[string]string {
	r := strings.Repeat
	return map[string]string{
		"parentheses":    r("(", n),
		"closed":         r("(", n) + r(")", n),
		"lists":          "x = " + r("[", n) + r("]", n),
		"braces":         r("{1:", n),
		"not":            "x = " + r("not ", n) + "1",
		"minus":          "x = " + r("-", n) + "1",
		"lambda":         "x = " + r("lambda:", n) + "1",
		"ternary":        "x = " + r("1 if 1 else ", n) + "1",
		"power":          "x = " + r("2**", n) + "1",
		"attributes":     "x = a" + r(".b", n),
		"calls":          "x = a" + r("()", n),
		"sums":           "x = 1" + r("+1", n),
		"and":            "x = 1" + r(" and 1", n),
		"comparisons":    "x = 1" + r(" < 1", n),
		"f-strings":      "x = " + r("f'{", n),
		"f-string parts": "x = " + r("f'{a}' ", n),
		"formats":        "x = f'" + r("{a:", n),
		"elif":           "if 1: pass\n" + r("elif 1: pass\n", n),
		"with":           "with " + r("(", n) + "a" + r(")", n) + ": pass",
		"withs":          r("with (a, b, c\n", n),
		"match":          r("match ", n) + ":\n case _: pass",
		"matches":        r("match (a\n", n),
		"patterns":       "match x:\n case " + r("[", n) + r("]", n) + ": pass",
		"or patterns":    "match x:\n case 1" + r("|1", n) + ": pass",
		"decorators":     r("@a\n", n) + "def f(): pass",
		"indentation":    indented(min(n, 3000)),
		"unindented":     r("if 1:\n", n),
		"assignments":    "x" + r(" = x", n),
		"backslashes":    r("\\\n", n),
		"quotes":         r("'", n),
		"triple":         r("'''", n),
		"strings":        "x = " + r("'a' ", n),
		"comments":       r("#\n", n),
		"nulls":          r("\x00", n),
		"errors":         r("x = )\n", n),
		"brackets":       r("x = (\ndef\n", n),
		"dictionary":     "x = {" + r("1: 2,", n) + "}",
		"subscripts":     "x = a" + r("[1]", n),
		"await":          "x = " + r("await ", n) + "a",
		"starred":        "x = " + r("*", n) + "a",
		"yield":          r("x = yield ", n),
	}
}

func indented(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "if 1:\n")
	}
	return b.String()
}

func TestHostile(t *testing.T) {
	for name, src := range hostile(20_000) {
		start := time.Now()
		f := Parse(src)
		n := 0
		for _, s := range f.Body {
			Walk(s, func(Node) bool { n++; return true })
		}
		// Quadratic time would be minutes here; a busy machine is not that slow.
		if d := time.Since(start); d > time.Minute {
			t.Errorf("%s: %v for %d bytes", name, d, len(src))
		}
	}
}

func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("testdata/syntax/*.py")
	if err != nil || len(names) == 0 {
		f.Fatal(names, err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range hostile(300) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, src := Read(b)
		lines := int32(strings.Count(src, "\n") + strings.Count(src, "\r") + 2)
		for _, e := range file.Errors {
			if e.Line < 1 || e.Line > lines || e.Col < 0 {
				t.Errorf("error at %d:%d of %d lines", e.Line, e.Col, lines)
			}
		}
		bad := 0
		for _, s := range file.Body {
			Walk(s, func(n Node) bool {
				s := n.At()
				if _, ok := n.(*Bad); ok {
					bad++
				} else if s.Start.Line < 1 || s.End.Line < s.Start.Line || s.End.Line == s.Start.Line && s.End.Col < s.Start.Col {
					t.Errorf("%T from %v to %v", n, s.Start, s.End)
				}
				if c, ok := n.(*Constant); ok {
					c.Value()
				}
				return true
			})
		}
		if bad > 0 && len(file.Errors) == 0 {
			t.Error("a statement is bad, and no error says so")
		}
	})
}

package selftest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// touching are the names through which one process stops, signals or changes
// another, by the name or its beginning; each may be used in the packages that
// are named, and nowhere else in the product.
var touching = []struct {
	name   string
	prefix bool
	in     []string
	why    string
}{
	{"Ptrace", true, []string{"internal/ptrace"}, "only ptrace traces"},
	{"PTRACE_", true, []string{"internal/ptrace"}, "only ptrace traces"},
	{"SYS_PTRACE", false, []string{"internal/ptrace"}, "only ptrace traces"},
	{"ProcessVMWritev", false, []string{"internal/ptrace"}, "a target is not written to"},
	{"SYS_PROCESS_VM_WRITEV", false, []string{"internal/ptrace"}, "a target is not written to"},
	{"Kill", false, []string{"internal/ptrace", "internal/provoke", "internal/stress", "internal/probe"}, "a target gets no signals"},
	{"Tgkill", false, []string{"internal/ptrace"}, "a target gets no signals"},
	{"PidfdSendSignal", false, []string{"internal/ptrace", "internal/stress"}, "a target gets no signals"},
	{"PidfdGetfd", false, nil, "taking a descriptor changes when it is closed"},
	// inherit asks the kernel about Unix sockets of another network namespace
	// from a thread that it throws away.
	{"Setns", false, []string{"internal/inherit"}, "entering a namespace changes what every other thread of this process sees"},
}

// maxPackage is how many lines of code a package may have, tests not counted:
// beyond it, it has more than one purpose.
const maxPackage = 4000

// maxFile is the same for one file, tests counted.
const maxFile = 650

// TestSource looks at each file of the product: nobody stops or changes other
// processes, no package has an init function, nothing grows without bound.
func TestSource(t *testing.T) {
	seen := 0
	for _, p := range list(t, "./...") {
		pkg, _ := short(p.ImportPath)
		product, _ := layerOf(pkg)
		lines := 0
		comments := 0
		names, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			n := bytes.Count(b, []byte{'\n'})
			if n > maxFile {
				t.Errorf("%s has %d lines, more than %d: split it by purpose", name, n, maxFile)
			}
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			lines += n
			seen++
			file, err := parser.ParseFile(token.NewFileSet(), name, b, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc != nil {
				comments++
			}
			if product != testOnly {
				for _, bad := range touches(file, pkg) {
					t.Errorf("%s: %s", name, bad)
				}
			}
		}
		if lines > maxPackage {
			t.Errorf("package %s has %d lines, more than %d: split it by purpose", pkg, lines, maxPackage)
		}
		if comments != 1 {
			t.Errorf("package %s has %d package comments, want one", pkg, comments)
		}
	}
	if seen < 50 {
		t.Errorf("%d files: the test looks at the wrong folder", seen)
	}
}

// touches lists what a file of package pkg must not use.
func touches(file *ast.File, pkg string) []string {
	imported := make(map[string]bool)
	for _, i := range file.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		imported[path[strings.LastIndexByte(path, '/')+1:]] = true
	}
	var bad []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			from, ok := n.X.(*ast.Ident)
			// A signal goes out by syscall.Kill and by os.Process alike.
			if ok && imported[from.Name] && from.Name != "unix" && from.Name != "syscall" {
				return true
			}
			if n.Sel.Name == "PtraceRegs" {
				return true // a plain struct
			}
			for _, rule := range touching {
				if n.Sel.Name != rule.name && (!rule.prefix || !strings.HasPrefix(n.Sel.Name, rule.name)) {
					continue
				}
				if !oneOf(pkg, rule.in) {
					bad = append(bad, n.Sel.Name+": "+rule.why)
				}
			}
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				bad = append(bad, "an init function: whoever needs something makes it")
			}
		}
		return true
	})
	return bad
}

func oneOf(s string, list []string) bool {
	for _, l := range list {
		if s == l {
			return true
		}
	}
	return false
}

// TestTouches sees that the rules catch what they are there to catch.
func TestTouches(t *testing.T) {
	const source = `package x
import ("os"; "golang.org/x/sys/unix")
func f(p *os.Process) { unix.PtraceAttach(1); p.Kill(); unix.Getpid(); _ = unix.SYS_PTRACE }
func init() {}
`
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := touches(file, "internal/inspect"); len(got) != 4 {
		t.Errorf("got %q, want four", got)
	}
	if got := touches(file, "internal/ptrace"); len(got) != 1 {
		t.Errorf("within ptrace: got %q, want the init function alone", got)
	}
}

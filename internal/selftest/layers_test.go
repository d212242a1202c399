package selftest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "forkproof"

// The layers, lowest first. A package may import those of lower layers; the
// exceptions stand in mayImport.
const (
	words = iota
	mechanisms
	analyses
	jobs
	faces
	commands
	testOnly // linked into tests alone
)

// layer has every package of the repository: a new one is put here by whoever
// makes it.
var layer = map[string]int{
	"internal/finding": words, "internal/target": words,

	"internal/proc": mechanisms, "internal/procmem": mechanisms, "internal/ptrace": mechanisms, "internal/procevent": mechanisms,
	"internal/bpf": mechanisms, "internal/core": mechanisms,
	"internal/elffile": mechanisms, "internal/symbol": mechanisms, "internal/cfi": mechanisms, "internal/unwind": mechanisms, "internal/disasm": mechanisms,
	"internal/libc": mechanisms, "internal/cpython": mechanisms, "internal/pylock": mechanisms,
	"internal/forklog": mechanisms, "internal/osdb": mechanisms, "internal/image": mechanisms, "internal/pysrc": mechanisms, "internal/serverconf": mechanisms,

	"internal/deadlock": analyses, "internal/orphan": analyses, "internal/inherit": analyses, "internal/forkserver": analyses,
	"internal/facts": analyses, "internal/atfork": analyses, "internal/pylint": analyses,
	"internal/model": analyses, "internal/probe": analyses, "internal/chance": analyses,

	"internal/inspect": jobs, "internal/check": jobs, "internal/crosscheck": jobs, "internal/trace": jobs, "internal/provoke": jobs, "internal/stress": jobs,
	"internal/lint": jobs, "internal/watch": jobs, "internal/history": jobs, "internal/fleet": jobs, "internal/doctor": jobs, "internal/locate": jobs, "internal/replay": jobs,

	"internal/cli": faces, "internal/report": faces, "internal/web": faces, "internal/tui": faces,

	"cmd/forkproof": commands, "cmd/forkproof-hub": commands, "tool/gendoc": commands, "tool/genlocks": commands,

	"internal/testbed": testOnly, "internal/bench": testOnly, "internal/selftest": testOnly,
}

// mayImport are the layers whose packages may import one another: a mechanism
// is built of mechanisms, and the command line calls the renderers. Analyses and
// jobs stand beside each other.
var mayImport = map[int]bool{words: true, mechanisms: true, faces: true, testOnly: true}

// exceptions are single imports within one layer, each with its reason.
var exceptions = map[string]string{
	"internal/inherit > internal/forkserver": "what is inherited follows from who is master and who is worker",
}

// goPackage is what `go list -json` tells of one package.
type goPackage struct {
	ImportPath, Dir                    string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports,Deps"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %v\n%s", cmd, err, exit.Stderr)
		}
		t.Fatalf("%v: %v", cmd, err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// short is the path of a package within the module, false for others.
func short(importPath string) (string, bool) { return strings.CutPrefix(importPath, module+"/") }

// layerOf returns the layer of a package: its own or that of the folder above,
// as with internal/model/libc.
func layerOf(pkg string) (int, bool) {
	for p := pkg; p != "." && p != "/"; p = path.Dir(p) {
		if l, ok := layer[p]; ok {
			return l, true
		}
	}
	return 0, false
}

// allowed says why from may not import to; empty where it may.
func allowed(from, to string) string {
	f, okF := layerOf(from)
	g, okG := layerOf(to)
	switch {
	case !okF:
		return "package " + from + " is in no layer: add it to the list in layers_test.go"
	case !okG:
		return "package " + to + " is in no layer: add it to the list in layers_test.go"
	case g == testOnly && f != testOnly:
		return "it is for tests only"
	case g > f:
		return "imports go downward only"
	case g == f && !mayImport[f] && exceptions[from+" > "+to] == "" && !strings.HasPrefix(to, from+"/") && !strings.HasPrefix(from, to+"/"):
		return "packages of this layer do not import one another"
	case f == mechanisms && to == "internal/finding":
		return "mechanisms return data and know nothing of findings"
	case f == faces && g == mechanisms:
		return "faces show what jobs found and read nothing themselves"
	case f == commands && g < faces:
		return "a command only calls the command line"
	}
	return ""
}

func TestImportsGoDownward(t *testing.T) {
	packages := list(t, "./...")
	if len(packages) < 20 {
		t.Fatalf("go list names %d packages: the test looks at the wrong folder", len(packages))
	}
	for _, p := range packages {
		from, ok := short(p.ImportPath)
		if !ok {
			t.Errorf("package %s is outside module %s", p.ImportPath, module)
			continue
		}
		if _, ok := layerOf(from); !ok {
			t.Errorf("package %s is in no layer: add it to the list in layers_test.go", from)
		}
		for _, i := range p.Imports {
			if why, bad := notImported[i]; bad {
				t.Errorf("%s imports %s: %s", from, i, why)
			}
			if to, ok := short(i); ok {
				if why := allowed(from, to); why != "" {
					t.Errorf("%s imports %s: %s", from, to, why)
				}
			}
		}
		// Tests may use the testbed and otherwise look down too.
		for _, i := range append(p.TestImports, p.XTestImports...) {
			to, ok := short(i)
			if !ok || to == from {
				continue
			}
			if l, ok := layerOf(to); ok && l == testOnly {
				continue
			}
			if f, _ := layerOf(from); f == testOnly {
				continue
			}
			if f, _ := layerOf(from); f == mechanisms || f == words {
				if why := allowed(from, to); why != "" {
					t.Errorf("a test of %s imports %s: %s", from, to, why)
				}
			}
		}
	}
}

// TestRules sees that the rules catch what they are there to catch.
func TestRules(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		may      bool
	}{
		{"internal/proc", "internal/target", true},
		{"internal/unwind", "internal/cfi", true},
		{"internal/proc", "internal/finding", false},
		{"internal/cpython", "internal/deadlock", false},
		{"internal/deadlock", "internal/orphan", false},
		{"internal/inherit", "internal/forkserver", true},
		{"internal/inspect", "internal/check", false},
		{"internal/inspect", "internal/unwind", true},
		{"internal/report", "internal/finding", true},
		{"internal/report", "internal/proc", false},
		{"internal/cli", "internal/testbed", false},
		{"internal/cli", "internal/report", true},
		{"cmd/forkproof", "internal/cli", true},
		{"cmd/forkproof", "internal/inspect", false},
		{"internal/model/libc", "internal/model", true},
		{"internal/new", "internal/proc", false},
	} {
		if why := allowed(tt.from, tt.to); (why == "") != tt.may {
			t.Errorf("%s imports %s: %q", tt.from, tt.to, why)
		}
	}
}

// notLinked are packages that must never be part of what users run.
var notLinked = map[string]string{
	"testing":        "it registers flags and is for tests",
	"runtime/cgo":    "the product is one static binary",
	"net/http/pprof": "it registers handlers with every web server of the process",
	"plugin":         "the product is one static binary",
}

// notImported are packages that our own must not use; archive/tar links the first
// for functions that we do not call.
var notImported = map[string]string{
	"os/user": "with cgo it asks the C library's name services",
}

func TestNotLinked(t *testing.T) {
	t.Setenv("CGO_ENABLED", "0")
	for _, p := range list(t, "./cmd/...") {
		for _, d := range p.Deps {
			if why, bad := notLinked[d]; bad {
				t.Errorf("%s links %s: %s", p.ImportPath, d, why)
			}
			if s, ok := short(d); ok {
				if l, known := layerOf(s); known && l == testOnly {
					t.Errorf("%s links %s, which is for tests only", p.ImportPath, d)
				}
			}
		}
		if !slices.Contains(p.Deps, module+"/internal/cli") {
			t.Errorf("%s does not link the command line: the test looks at the wrong thing", p.ImportPath)
		}
	}
}

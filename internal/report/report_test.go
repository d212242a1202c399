package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"forkproof/internal/finding"
)

var update = flag.Bool("update", false, "write the golden files anew")

func render(t *testing.T, format string, doc *finding.Document, opts Options) []byte {
	t.Helper()
	r, err := Lookup(format)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r(&b, doc, opts); err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	for title, doc := range documents() {
		for _, format := range Formats() {
			golden(t, title+"."+format, render(t, format, doc, Options{}))
		}
	}
	golden(t, "owner.verbose.text", render(t, "text", ownerKnown(), Options{Verbose: true}))
	golden(t, "hung.narrow.text", render(t, "text", hung(5, 1), Options{Width: 60}))
	golden(t, "hung.colour.text", render(t, "text", hung(5, 1), Options{Colour: true}))
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	i := 0
	for i < len(g)-1 && i < len(w)-1 && g[i] == w[i] {
		i++
	}
	t.Errorf("%s differs from its golden file in line %d: go test ./internal/report -update writes it anew, git diff shows how it differs\n got: %.300s\nwant: %.300s", file, i+1, g[i], w[i])
}

// Whatever a target calls itself, no format may carry a character that a
// terminal obeys, nor bytes that are no UTF-8.
func TestForeignNamesAreHarmless(t *testing.T) {
	for _, format := range Formats() {
		for _, verbose := range []bool{false, true} {
			out := render(t, format, hostileNames(), Options{Verbose: verbose})
			if !utf8.Valid(out) {
				t.Errorf("%s: not valid UTF-8", format)
			}
			for _, r := range string(out) {
				if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)) {
					t.Fatalf("%s: the report holds %U", format, r)
				}
			}
			if !strings.Contains(string(out), "owned") {
				t.Errorf("%s: the name is not shown at all", format)
			}
		}
	}
	page := string(render(t, "html", hostileNames(), Options{}))
	if strings.Contains(page, "<script") || strings.Contains(page, "<img") {
		t.Error("html: markup of a name is not escaped")
	}
	if n := len(render(t, "text", hostileNames(), Options{})); n > 64<<10 {
		t.Errorf("text: %d bytes for one process with long names", n)
	}
}

func FuzzVisible(f *testing.F) {
	for _, s := range []string{"", "plain", escape, markup, invalid, strings.Repeat("x", 500), "\u00a0\u3000é漢\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := name(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q becomes invalid", s)
		}
		for _, r := range got {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
				t.Fatalf("%q keeps %U", s, r)
			}
		}
		if n := utf8.RuneCountInString(got); n > 10*maxName+3 {
			t.Fatalf("%d runes", n)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back, plain string
		if err := json.Unmarshal(escapeJSON(b), &back); err != nil {
			t.Fatalf("escaped JSON of %q: %v", s, err)
		}
		if err := json.Unmarshal(b, &plain); err != nil || back != plain {
			t.Fatalf("%q comes back as %q", plain, back)
		}
	})
}

// One glance: 32 hung workers are one block, which names them all.
func TestAlikeFindingsAreOneBlock(t *testing.T) {
	doc := hung(32, 0)
	out := string(render(t, "text", doc, Options{}))
	if n := strings.Count(out, "CRITICAL"); n != 1 {
		t.Errorf("%d blocks, want one", n)
	}
	for _, f := range doc.Findings {
		if !strings.Contains(out, strconv.Itoa(f.PID)) {
			t.Errorf("worker %d is not named", f.PID)
		}
	}
	if n := strings.Count(out, "\n"); n > 50 {
		t.Errorf("%d lines, more than a screen", n)
	}
	// What differs in more than the process is another block.
	doc.Findings[3].Lock.Where = "other.LOCK"
	doc.Targets[1+5].Threads[0].Python[0].Line++
	doc.Findings[7].Confidence = finding.Observed
	if n := len(blocks(doc)); n != 4 {
		t.Errorf("%d blocks, want 4", n)
	}
	for _, b := range blocks(doc) {
		if b.Confidence == finding.Observed && strings.Contains(b.title(), "are deadlocked") {
			t.Errorf("an observation is titled as a proof: %s", b.title())
		}
	}
}

// No line is wider than the terminal, but for words that cannot be broken.
func TestWidth(t *testing.T) {
	for _, width := range []int{40, 60, 80, 100, 120} {
		for title, doc := range documents() {
			if title == "hostile" {
				continue
			}
			for _, line := range strings.Split(string(render(t, "text", doc, Options{Width: width})), "\n") {
				// A frame, and a line with a place that an editor follows, stay whole.
				frame := strings.HasPrefix(line, strings.Repeat(" ", label+4)) && !strings.Contains(line, "-v shows")
				frame = frame || title == "lint" && strings.HasSuffix(line, "-before-fork]")
				if utf8.RuneCountInString(line) > width && !frame {
					t.Errorf("%s at %d columns: %q", title, width, line)
				}
			}
		}
	}
}

func TestColourOnlyWhereAsked(t *testing.T) {
	plain := string(render(t, "text", hung(4, 1), Options{}))
	coloured := string(render(t, "text", hung(4, 1), Options{Colour: true}))
	if strings.Contains(plain, "\x1b") || !strings.Contains(coloured, "\x1b[1;31m") {
		t.Error("colours are where they were not asked for, or not where they were")
	}
	if got := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(coloured, ""); got != plain {
		t.Errorf("colours change the text:\n%s\n%s", plain, got)
	}
}

// The page asks nobody for anything.
func TestPageIsSelfContained(t *testing.T) {
	for title, doc := range documents() {
		page := string(render(t, "html", doc, Options{}))
		if m := regexp.MustCompile(`(?i)<[^>]*(\ssrc=|\shref=|\saction=)|url\(|@import|<script|<link|<iframe`).FindString(page); m != "" {
			t.Errorf("%s: the page holds %q", title, m)
		}
		for _, want := range []string{"default-src 'none'", "prefers-color-scheme:dark", "width=device-width", "@media print"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page lacks %q", title, want)
			}
		}
	}
}

// JSON can be read back into the same document: nothing is lost or renamed.
func TestJSONRoundTrip(t *testing.T) {
	for title, doc := range documents() {
		if title == "hostile" {
			continue // invalid UTF-8 comes back as a replacement
		}
		var back finding.Document
		d := json.NewDecoder(bytes.NewReader(render(t, "json", doc, Options{})))
		d.DisallowUnknownFields()
		if err := d.Decode(&back); err != nil {
			t.Fatal(err)
		}
		if back.Findings == nil || back.Targets == nil {
			t.Errorf("%s: findings and targets must be lists, also where they are empty", title)
		}
		if doc.Findings != nil && !reflect.DeepEqual(&back, doc) {
			t.Errorf("%s comes back different:\n%+v", title, back)
		}
	}
}

// Every rule is explained, and nothing is explained that is none.
func TestEveryRuleIsExplained(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../finding/finding.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := make(map[string]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Rule" {
			s, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared[s] = true
		}
		return true
	})
	if len(declared) < 10 {
		t.Fatalf("%d rules: the test looks at the wrong place", len(declared))
	}
	for _, r := range Rules() {
		if !declared[string(r.Name)] {
			t.Errorf("rule %s is explained twice, or is none", r.Name)
		}
		delete(declared, string(r.Name))
		if r.Short == "" || r.Means == "" || r.How == "" || r.Confidence == "" || len(r.Do) == 0 || strings.HasSuffix(r.Short, ".") {
			t.Errorf("rule %s is explained in part", r.Name)
		}
	}
	for n := range declared {
		t.Errorf("rule %s is not explained in rules.go", n)
	}
}

func TestPlural(t *testing.T) {
	for n, want := range map[int]string{0: "0 threads", 1: "1 thread", 2: "2 threads"} {
		if got := plural(n, "thread"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := plural(2, "process"); got != "2 processes" {
		t.Error(got)
	}
	if got := ranges([]int{1, 3, 4, 7, 8, 9, 12}); got != "1, 3, 4, 7-9, 12" {
		t.Error(got)
	}
}

func TestAge(t *testing.T) {
	for seconds, want := range map[float64]string{0.3: "0.3 s", 59.94: "59.9 s", 61: "1 min 1 s", 3600: "1 h 0 min", 90061: "1 d 1 h"} {
		if got := age(seconds); got != want {
			t.Errorf("%v s: got %q, want %q", seconds, got, want)
		}
	}
}

// TestMergedWithoutLoops keeps the innermost frame first where no frame of Python
// is known to belong to a native one, as with a stripped interpreter of 3.14.
func TestMergedWithoutLoops(t *testing.T) {
	native := []finding.NativeFrame{{Object: "libc.so.6"}, {Object: "python3.14"}, {Function: "PyEval_EvalCode", Object: "python3.14"}, {Function: "_start", Object: "python3.14"}}
	python := []finding.PythonFrame{{Function: "flush", File: "a.py", Line: 1, Native: -1}, {Function: "main", File: "b.py", Line: 2, Native: -1}}
	var got []string
	for _, r := range merged(native, python) {
		got = append(got, r.Text)
	}
	want := []string{"libc.so.6+0x0", "python3.14+0x0", "flush at a.py:1", "main at b.py:2", "PyEval_EvalCode+0x0 in python3.14", "_start+0x0 in python3.14"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

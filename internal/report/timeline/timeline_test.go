package timeline

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forkproof/internal/model"
	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, file string, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s is not what is written now; if it is meant, go test -update writes it anew", path)
	}
	return b.String()
}

func explore(t *testing.T, name, on string, opt model.Options) *model.Result {
	t.Helper()
	s, ok, err := scenario.Find(name)
	if err != nil || !ok {
		t.Fatalf("%s: %v %v", name, ok, err)
	}
	l, err := libc.Find(on)
	if err != nil {
		t.Fatal(err)
	}
	r, err := model.Run(t.Context(), s, &l, opt)
	if err != nil && !errors.Is(err, machine.ErrMemory) {
		t.Fatal(err)
	}
	return r
}

func TestGolden(t *testing.T) {
	for _, tt := range []struct{ name, on string }{
		{"BZ-19431", "glibc-2.23"},           // a cycle of three
		{"BZ-19431", "glibc-2.24"},           // nothing
		{"BZ-24595", "glibc-2.31"},           // a child that waits for itself
		{"gunicorn-preload", "glibc-2.36"},   // an orphaned lock
		{"dlclose-registered", "glibc-2.31"}, // a crash
		{"dlclose-in-prepare", "glibc-2.31"}, // a handler twice
		{"strongswan", "musl-1.1.24"},        // no fault, but a risk
		{"popen", "bionic"},                  // not read
	} {
		r := explore(t, tt.name, tt.on, model.Options{})
		file := tt.name + "." + tt.on
		golden(t, file+".text", func(w io.Writer) error { return Text(w, r) })
		golden(t, file+".mermaid", func(w io.Writer) error { return Mermaid(w, r) })
		page := golden(t, file+".html", func(w io.Writer) error { return HTML(w, "test", []*model.Result{r}) })
		if strings.Contains(page, "<script") || strings.Contains(page, "http-equiv=\"refresh") {
			t.Errorf("%s: the page runs something", file)
		}
		golden(t, file+".json", func(w io.Writer) error { return JSON(w, "test", []*model.Result{r}) })
	}
}

// TestTables: of one scenario on all libcs, and of several.
func TestTables(t *testing.T) {
	var one, several []*model.Result
	for _, name := range []string{"BZ-24595", "BZ-19431", "posix-rule"} {
		for _, l := range libc.All() {
			r := explore(t, name, l.Name, model.Options{})
			several = append(several, r)
			if name == "BZ-24595" {
				one = append(one, r)
			}
		}
	}
	golden(t, "one.text", func(w io.Writer) error { return Table(w, one) })
	golden(t, "several.text", func(w io.Writer) error { return Table(w, several) })
	golden(t, "several.html", func(w io.Writer) error { return HTML(w, "test", several) })
}

// TestAnUnfinishedRunIsNeverCalledSafe: in no format.
func TestAnUnfinishedRunIsNeverCalledSafe(t *testing.T) {
	r := explore(t, "BZ-19431", "glibc-2.24", model.Options{Memory: 1})
	if r.Complete {
		t.Fatal("one byte was enough")
	}
	for name, write := range map[string]func(io.Writer) error{
		"text":    func(w io.Writer) error { return Text(w, r) },
		"table":   func(w io.Writer) error { return Table(w, []*model.Result{r, r}) },
		"mermaid": func(w io.Writer) error { return Mermaid(w, r) },
		"html":    func(w io.Writer) error { return HTML(w, "test", []*model.Result{r}) },
		"json":    func(w io.Writer) error { return JSON(w, "test", []*model.Result{r}) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		if s := b.String(); strings.Contains(s, "no deadlock") || strings.Contains(s, "all explored") && !strings.Contains(s, "not all") || strings.Contains(s, `"outcome": "fine"`) {
			t.Errorf("%s calls it safe:\n%s", name, s)
		}
	}
}

// TestPicture is well-formed XML, and every thread of the cycle has its line.
func TestPicture(t *testing.T) {
	r := explore(t, "BZ-19431", "glibc-2.23", model.Options{})
	var b bytes.Buffer
	if err := HTML(&b, "test", []*model.Result{r}); err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(b.String(), "<svg")
	svg, _, ok2 := strings.Cut(rest, "</svg>")
	if !ok || !ok2 {
		t.Fatalf("there is no picture:\n%s", b.String())
	}
	names, arrows := 0, 0
	d := xml.NewDecoder(strings.NewReader("<svg" + svg + "</svg>"))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if a.Name.Local == "class" && a.Value == "name" {
					names++
				}
				if a.Name.Local == "class" && a.Value == "arrow" {
					arrows++
				}
			}
		}
	}
	if names != 3 || arrows != 3 {
		t.Errorf("%d threads and %d arrows, want 3 and 3", names, arrows)
	}
}

// TestJSONHasNoNull: a program can go over every array without looking.
func TestJSONHasNoNull(t *testing.T) {
	var b bytes.Buffer
	if err := JSON(&b, "test", []*model.Result{explore(t, "posix-rule-kept", "glibc-2.36", model.Options{}), explore(t, "popen", "bionic", model.Options{})}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "null") {
		t.Errorf("null in\n%s", b.String())
	}
	var d document
	if err := json.Unmarshal(b.Bytes(), &d); err != nil || len(d.Runs) != 2 || d.Schema != Schema {
		t.Errorf("%v %+v", err, d)
	}
}

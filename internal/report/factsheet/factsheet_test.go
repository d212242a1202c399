package factsheet

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"forkproof/internal/facts"
)

var update = flag.Bool("update", false, "write the golden files anew")

func base(t *testing.T) *facts.Base {
	t.Helper()
	b, err := facts.Load()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

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

// bookworm is a machine for the golden files.
var bookworm = facts.Build{Family: "glibc", Version: "2.36", Package: facts.Package{Ecosystem: facts.Deb, Name: "libc6", Version: "2.36-9+deb12u14", Distribution: "debian", Release: "12"}}

func TestGolden(t *testing.T) {
	b := base(t)
	for _, format := range []string{"text", "md"} {
		golden(t, "matrix."+format, func(w io.Writer) error { return Matrix(w, format, "test", b.Matrix(bookworm)) })
	}
	for _, id := range []string{"BZ-24595", "openblas", "localtime_r", "gunicorn"} {
		for _, format := range ArticleFormats {
			a, ok := b.Explain(id)
			if !ok {
				t.Fatalf("nothing of %s", id)
			}
			golden(t, id+"."+format, func(w io.Writer) error { return Article(w, format, "test", a) })
		}
	}
	r, err := b.Remedy("uwsgi", "", []string{"SC"})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"text", "json"} {
		golden(t, "uwsgi."+format, func(w io.Writer) error { return Remedy(w, format, "test", r) })
	}
}

// text renders a matrix.
func rendered(t *testing.T, format string, build facts.Build) string {
	t.Helper()
	var b bytes.Buffer
	if err := Matrix(&b, format, "test", base(t).Matrix(build)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestMatrixMarksThisMachine(t *testing.T) {
	for format, want := range map[string][]string{
		"text": {"\n> 2.36 ", "\n> Debian 12 (bookworm)", "This machine: glibc 2.36, package 2.36-9+deb12u14 of debian 12."},
		"md":   {"**2.36** (this machine)", "**Debian 12 (bookworm)** (this machine)"},
		"html": {`<tr class="here"><th scope="row" title="the lock of the handlers is let go around each handler">2.36 (this machine)</th>`},
		"json": {`"here": true`, `"row": "2.36"`},
	} {
		got := rendered(t, format, bookworm)
		for _, s := range want {
			if !strings.Contains(got, s) {
				t.Errorf("%s lacks %q", format, s)
			}
		}
		none := rendered(t, format, facts.Build{})
		if strings.Contains(none, "\n> 2.") || strings.Contains(none, "(this machine)") || strings.Contains(none, `"here": true`) {
			t.Errorf("%s marks a machine that was not named", format)
		}
	}
	for build, want := range map[*facts.Build]string{
		{Family: "glibc", Version: "2.99"}:   "glibc 2.99 is newer than forkproof's data",
		{Family: "dietlibc", Version: "0.3"}: "is not in forkproof's data",
	} {
		if got := rendered(t, "text", *build); !strings.Contains(strings.Join(strings.Fields(got), " "), want) {
			t.Errorf("%v: nothing of %q", build, want)
		}
	}
}

func TestKnownIsNeverCalledProven(t *testing.T) {
	b := base(t)
	for _, format := range MatrixFormats {
		got := strings.ReplaceAll(rendered(t, format, bookworm), "known of this version, not proven of any process", "")
		if strings.Contains(got, "proven") {
			t.Errorf("%s says proven", format)
		}
	}
	for _, topic := range b.Topics() {
		a, _ := b.Explain(topic.ID)
		var w bytes.Buffer
		if err := Article(&w, "text", "test", a); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(w.String(), "proven") {
			t.Errorf("the article on %s says proven", topic.ID)
		}
	}
}

func TestJSONHasItsSchema(t *testing.T) {
	var doc struct {
		Schema, Version string
		Matrix          facts.Matrix
	}
	if err := json.Unmarshal([]byte(rendered(t, "json", bookworm)), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Schema != MatrixSchema || doc.Version != "test" || len(doc.Matrix.Libcs) < 8 || doc.Matrix.Machine == nil {
		t.Errorf("schema %q, version %q, %d libcs", doc.Schema, doc.Version, len(doc.Matrix.Libcs))
	}
	b := base(t)
	var list bytes.Buffer
	if err := Topics(&list, "json", "test", b.Topics(), b.Functions()); err != nil {
		t.Fatal(err)
	}
	var topics struct {
		Topics struct {
			Topics    []facts.Topic
			Functions []string
		}
	}
	if err := json.Unmarshal(list.Bytes(), &topics); err != nil || len(topics.Topics.Topics) != len(b.Topics()) || len(topics.Topics.Functions) != len(b.Functions()) {
		t.Errorf("the list is not whole: %v", err)
	}
}

// TestForeignNamesAreHarmless: the version of a package comes from a file that
// anybody may have written.
func TestForeignNamesAreHarmless(t *testing.T) {
	evil := bookworm
	evil.Package.Version = "2.36-9\x1b[31m<script>alert(1)</script>|x\n"
	evil.Package.Release = "12\x07"
	for _, format := range MatrixFormats {
		got := rendered(t, format, evil)
		if strings.ContainsAny(got, "\x1b\x07") {
			t.Errorf("%s has what a terminal would obey", format)
		}
		if format == "html" && strings.Contains(got, "<script") {
			t.Error("the page has a script")
		}
		if format == "md" && strings.Contains(got, "<script") {
			t.Error("the Markdown has a script")
		}
	}
}

func TestLinesFit(t *testing.T) {
	for _, line := range strings.Split(rendered(t, "text", bookworm), "\n") {
		if utf8.RuneCountInString(line) > width {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
}

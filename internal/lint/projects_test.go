package lint

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"forkproof/internal/finding"
)

// project is one of testdata: a small program with what is to be found in it.
// Lines of Python say so themselves, by "# want: rule [severity]"; other files by
// the section "expect". The comment begins with hazard or healthy.
type project struct {
	name    string
	healthy bool
	files   []txtar.File
	want    []string
}

func projects(t *testing.T, glob string) []project {
	t.Helper()
	names, err := filepath.Glob(glob)
	if err != nil || len(names) == 0 {
		t.Fatalf("%d projects, %v", len(names), err)
	}
	var out []project
	for _, n := range names {
		a, err := txtar.ParseFile(n)
		if err != nil {
			t.Fatal(err)
		}
		p := project{name: strings.TrimSuffix(filepath.Base(n), ".txtar")}
		word, _, _ := strings.Cut(string(a.Comment), ":")
		switch word {
		case "healthy":
			p.healthy = true
		case "hazard":
		default:
			t.Fatalf("%s: it begins with %q, and not with hazard or healthy", n, word)
		}
		for _, f := range a.Files {
			if f.Name == "expect" {
				for line := range strings.Lines(string(f.Data)) {
					p.want = append(p.want, full(strings.TrimSpace(line)))
				}
				continue
			}
			p.files = append(p.files, f)
			i := 0
			for line := range strings.Lines(string(f.Data)) {
				i++
				if _, w, ok := strings.Cut(line, "# want: "); ok {
					p.want = append(p.want, full(fmt.Sprintf("%s:%d %s", f.Name, i, strings.TrimSpace(w))))
				}
			}
		}
		slices.Sort(p.want)
		out = append(out, p)
	}
	return out
}

// full adds the severity that is meant where none was written.
func full(want string) string {
	if strings.Count(want, " ") == 1 {
		return want + " warning"
	}
	return want
}

// found lints a project and returns its findings in the form of want.
func (p *project) found(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range p.files {
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := Run(context.Background(), Request{Paths: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range doc.Findings {
		rel, err := filepath.Rel(dir, f.Place.File)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s:%d %s %s", filepath.ToSlash(rel), f.Place.Line, f.Rule, f.Severity))
	}
	slices.Sort(out)
	return out
}

// score counts findings of at least a warning: those that were right, those that
// were not expected, and those that are missing.
type score struct{ right, wrong, missing int }

func (s score) precision() float64 { return float64(s.right) / float64(s.right+s.wrong) }
func (s score) recall() float64    { return float64(s.right) / float64(s.right+s.missing) }

func (s *score) add(got, want []string) {
	serious := func(x string) bool { return !strings.HasSuffix(x, " "+finding.Info.String()) }
	left := slices.Clone(want)
	for _, g := range got {
		if !serious(g) {
			continue
		}
		if i := slices.Index(left, g); i >= 0 {
			left = slices.Delete(left, i, i+1)
			s.right++
		} else {
			s.wrong++
		}
	}
	for _, w := range left {
		if serious(w) {
			s.missing++
		}
	}
}

// TestProjects lints the projects that the rules were written with: each finding,
// information too, is as it is to be.
func TestProjects(t *testing.T) {
	all := projects(t, "testdata/projects/*.txtar")
	var s score
	healthy := 0
	for _, p := range all {
		if p.healthy {
			healthy++
		}
		t.Run(p.name, func(t *testing.T) {
			got := p.found(t)
			s.add(got, p.want)
			if !slices.Equal(got, p.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(p.want, "\n  "))
			}
		})
	}
	if len(all) < 60 || healthy*2 < len(all)-4 {
		t.Errorf("%d projects, %d of them healthy", len(all), healthy)
	}
	t.Logf("%d projects, %d healthy: precision %.3f, recall %.3f (%d right, %d wrong, %d missing)", len(all), healthy, s.precision(), s.recall(), s.right, s.wrong, s.missing)
}

// TestBlind lints projects that were written after the rules and before they were
// first run on them. What it found then is in docs/lint.md; since then the rules
// may not get worse.
func TestBlind(t *testing.T) {
	all := projects(t, "testdata/blind/*.txtar")
	var s score
	for _, p := range all {
		got := p.found(t)
		s.add(got, p.want)
		if !slices.Equal(got, p.want) {
			t.Errorf("%s: got\n  %s\nwant\n  %s", p.name, strings.Join(got, "\n  "), strings.Join(p.want, "\n  "))
		}
	}
	t.Logf("%d projects: precision %.3f, recall %.3f (%d right, %d wrong, %d missing)", len(all), s.precision(), s.recall(), s.right, s.wrong, s.missing)
}

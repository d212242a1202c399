package factsheet

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"forkproof/internal/facts"
)

//go:embed matrix.html
var page string

var parsed = sync.OnceValues(func() (*template.Template, error) {
	return template.New("matrix").Funcs(template.FuncMap{
		"mark":    func(r facts.Row, id string) string { return words[mark(r, id)] },
		"class":   func(r facts.Row, id string) string { return classes[mark(r, id)] },
		"join":    func(s []string) string { return strings.Join(s, ", ") },
		"since":   since,
		"ranges":  ranges,
		"visible": visible,
		"machine": machine,
		"inc":     func(i int) int { return i + 1 },
	}).Parse(page)
})

// marks of a cell, their words and classes.
var (
	words   = map[string]string{"x": "has it", "b": "has it; mended on its branch", ".": "–"}
	classes = map[string]string{"x": "has", "b": "branch", ".": "free"}
)

// mark is the cell of one release and one defect: x has it, b has it and its
// branch mended it later, and a point where it is free of it.
func mark(r facts.Row, id string) string {
	switch {
	case slices.Contains(r.Mended, id):
		return "b"
	case slices.Contains(r.Has, id):
		return "x"
	}
	return "."
}

// Matrix writes the table as text, json, html or md.
func Matrix(w io.Writer, format, version string, m facts.Matrix) error {
	var b strings.Builder
	switch format {
	case "json":
		return JSON(w, MatrixSchema, version, "matrix", m)
	case "html":
		t, err := parsed()
		if err != nil {
			return fmt.Errorf("read the page of the matrix: %w", err)
		}
		if err := t.Execute(&b, m); err != nil {
			return fmt.Errorf("write the matrix as HTML: %w", err)
		}
	case "md":
		markdown(&b, m)
	default:
		text(&b, m)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// machine says how this machine stands to the table, a line each.
func machine(m facts.Matrix) []string {
	if m.Machine == nil {
		return []string{"This machine's C library was not found, so no row is marked."}
	}
	v, p := m.Machine.Verdict, m.Machine.Package
	name := visible(v.Family + " " + v.Version)
	if p.Version != "" {
		name += ", package " + visible(p.Version)
	}
	if p.Distribution != "" {
		name += " of " + strings.TrimSpace(visible(p.Distribution+" "+p.Release))
	}
	out := []string{"This machine: " + name + "."}
	if v.Says != "" {
		out = append(out, visible(v.Says)+".")
	}
	by := make(map[facts.State][]string)
	for _, j := range v.Defects {
		line := j.ID
		if j.State == facts.Backported || j.State == facts.Possible {
			line += " (" + visible(j.Why) + ")"
		}
		by[j.State] = append(by[j.State], line)
	}
	for _, s := range []struct {
		state facts.State
		says  string
	}{
		{facts.Applies, "It has"},
		{facts.Possible, "It may have"},
		{facts.Backported, "Its package has mended"},
	} {
		if ids := by[s.state]; len(ids) > 0 {
			out = append(out, s.says+": "+strings.Join(ids, "; ")+".")
		}
	}
	return append(out, "Each is known of this version, not proven of any process.")
}

func since(all []facts.Since) string {
	var out []string
	for _, s := range all {
		out = append(out, s.ID+" ("+s.Package+")")
	}
	return strings.Join(out, ", ")
}

func ranges(all []facts.Range) string {
	var out []string
	for _, r := range all {
		s := r.String()
		if r.Note != "" {
			s += " (" + r.Note + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func text(b *strings.Builder, m facts.Matrix) {
	for i, l := range m.Libcs {
		if i > 0 {
			b.WriteString("\n")
		}
		title := strings.ToUpper(l.Name)
		if l.Documented {
			title += " (documented alone: forkproof reads no such processes)"
		}
		b.WriteString(title + "\n\n")
		grid(b, l)
		b.WriteString("\n")
		for n, d := range l.Defects {
			b.WriteString(fill(fmt.Sprintf("%s [%s; %s]", d.Title, d.Severity, ranges(d.Ranges)), fmt.Sprintf("  %2d %-26s ", n+1, d.ID), strings.Repeat(" ", 32)))
		}
		ships(b, l)
	}
	b.WriteString("\nx has it, b has it and its branch mended it later, . free of it; > this machine.\n'forkproof explain ID' says more.\n\n")
	for _, l := range machine(m) {
		b.WriteString(fill(l, "", "  "))
	}
}

// grid draws versions against numbered defects, whose numbers stand upright so
// that the table fits; every fifth column stands apart to keep the eye on its line.
func grid(b *strings.Builder, l facts.MatrixLibc) {
	const label = 20
	row := func(head string, cell func(i int) string) {
		line := fmt.Sprintf("%-*s", label, head)
		for i := range l.Defects {
			if i > 0 && i%5 == 0 {
				line += " "
			}
			line += " " + cell(i)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	if len(l.Defects) > 9 {
		row("", func(i int) string {
			if i < 9 {
				return " "
			}
			return strconv.Itoa((i + 1) / 10)
		})
	}
	row("  version    malloc", func(i int) string { return strconv.Itoa((i + 1) % 10) })
	for _, r := range l.Rows {
		here := " "
		if r.Here {
			here = ">"
		}
		malloc := map[string]string{"yes": "works", "no": "hangs", "corrupts": "breaks"}[r.Malloc]
		row(fmt.Sprintf("%s %-11s%s", here, r.Version.Version, malloc), func(i int) string { return mark(r, l.Defects[i].ID) })
	}
}

func ships(b *strings.Builder, l facts.MatrixLibc) {
	if len(l.Ships) == 0 {
		return
	}
	b.WriteString("\n  shipped by\n")
	for _, s := range l.Ships {
		here := " "
		if s.Here {
			here = ">"
		}
		line := s.Version
		if s.Seen != "" {
			line += ", looked at " + s.Package + " " + s.Seen
		} else {
			line += ", not looked at"
		}
		if len(s.Backported) > 0 {
			line += "; mended there: " + since(s.Backported)
		}
		if len(s.Has) > 0 {
			line += "; seen with: " + since(s.Has)
		}
		if s.Note != "" {
			line += "; " + s.Note
		}
		b.WriteString(fill(line, fmt.Sprintf("%s %-27s ", here, s.Name), strings.Repeat(" ", 30)))
	}
}

func markdown(b *strings.Builder, m facts.Matrix) {
	b.WriteString("# C libraries and fork\n\n")
	for _, l := range machine(m) {
		b.WriteString(cell(l) + "\n")
	}
	for _, l := range m.Libcs {
		fmt.Fprintf(b, "\n## %s\n\n", l.Name)
		if l.Documented {
			b.WriteString("Documented alone: forkproof reads no such processes.\n\n")
		}
		b.WriteString("| version | released | malloc in a worker | has | new | gone | shipped by |\n|---|---|---|---|---|---|---|\n")
		for _, r := range l.Rows {
			v := r.Version.Version
			if r.Here {
				v = "**" + v + "** (this machine)"
			}
			var has []string
			for _, id := range r.Has {
				if mark(r, id) == "b" {
					id += " (mended on its branch)"
				}
				has = append(has, id)
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", v, r.Released, r.Malloc, cell(strings.Join(has, ", ")), cell(strings.Join(r.New, ", ")), cell(strings.Join(r.Gone, ", ")), cell(strings.Join(r.Shipped, ", ")))
		}
		b.WriteString("\n| defect | severity | versions | says |\n|---|---|---|---|\n")
		for _, d := range l.Defects {
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", d.ID, d.Severity, cell(ranges(d.Ranges)), cell(d.Title))
		}
		if len(l.Ships) == 0 {
			continue
		}
		b.WriteString("\n| distribution | ships | looked at | mended there | seen with | |\n|---|---|---|---|---|---|\n")
		for _, s := range l.Ships {
			name := s.Name
			if s.Here {
				name = "**" + name + "** (this machine)"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", name, s.Version, cell(s.Seen), cell(since(s.Backported)), cell(since(s.Has)), cell(s.Note))
		}
	}
}

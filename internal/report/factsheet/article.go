package factsheet

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"forkproof/internal/facts"
)

// part is one titled list of an article.
type part struct {
	title    string
	lines    []string
	numbered bool
}

func parts(a facts.Article) []part {
	var trigger []string
	if a.Trigger != "" {
		trigger = []string{a.Trigger}
	}
	known := a.Known
	if known != "" {
		known = "a fact that matches versions, not a proof about a process; " + known
	}
	all := []part{
		{"what", a.What, false},
		{"steps", a.Steps, true},
		{"trigger", trigger, false},
		{"when", a.When, false},
		{"packages", a.Packages, false},
		{"measured", a.Measured, false},
		{"see", a.See, false},
		{"do", a.Do, false},
		{"known", []string{known}, false},
		{"related", []string{strings.Join(a.Related, ", ")}, false},
		{"sources", sources(unique(a.Sources)), false},
	}
	return slices.DeleteFunc(all, func(p part) bool { return len(p.lines) == 0 || p.lines[0] == "" })
}

func unique(all []facts.Source) []facts.Source {
	var out []facts.Source
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// heading is the first line of an article.
func heading(a facts.Article) (title, sub string) {
	sub = a.Kind
	if a.Severity != "" {
		sub += ", " + string(a.Severity) + " where it applies"
	}
	if len(a.Aliases) > 0 {
		sub += ", also " + strings.Join(a.Aliases, ", ")
	}
	if a.ID == a.Title {
		return a.ID, sub
	}
	return a.ID + ": " + a.Title, sub
}

// Article writes the article on one thing as text, json or md.
func Article(w io.Writer, format, version string, a facts.Article) error {
	if format == "json" {
		return JSON(w, ExplainSchema, version, "article", a)
	}
	title, sub := heading(a)
	var b strings.Builder
	if format == "md" {
		fmt.Fprintf(&b, "# %s\n\n*%s*\n", title, sub)
		for _, p := range parts(a) {
			fmt.Fprintf(&b, "\n## %s\n\n", p.title)
			for i, l := range p.lines {
				mark := "-"
				if p.numbered {
					mark = fmt.Sprintf("%d.", i+1)
				}
				fmt.Fprintf(&b, "%s %s\n", mark, l)
			}
		}
	} else {
		b.WriteString(fill(title, "", "  "))
		b.WriteString(fill(sub, "  ", "  "))
		const indent = "            "
		for _, p := range parts(a) {
			b.WriteString("\n")
			for i, l := range p.lines {
				name := ""
				if i == 0 {
					name = p.title
				}
				mark := "- "
				switch {
				case p.numbered:
					mark = fmt.Sprintf("%d. ", i+1)
				case len(p.lines) == 1:
					mark = ""
				}
				b.WriteString(fill(l, fmt.Sprintf("  %-10s%s", name, mark), indent+strings.Repeat(" ", len(mark))))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Topics writes the list of what can be explained.
func Topics(w io.Writer, format, version string, topics []facts.Topic, functions []string) error {
	if format == "json" {
		return JSON(w, ExplainSchema, version, "topics", struct {
			Topics    []facts.Topic `json:"topics"`
			Functions []string      `json:"functions"`
		}{topics, functions})
	}
	var b strings.Builder
	kind := ""
	for _, t := range topics {
		if t.Kind != kind {
			kind = t.Kind
			if format == "md" {
				fmt.Fprintf(&b, "\n## %s\n\n| id | says |\n|---|---|\n", kind)
			} else {
				fmt.Fprintf(&b, "\n%s\n", strings.ToUpper(kind))
			}
		}
		name := strings.Join(append([]string{t.ID}, t.Aliases...), ", ")
		if format == "md" {
			fmt.Fprintf(&b, "| %s | %s |\n", cell(name), cell(t.Title))
			continue
		}
		first := fmt.Sprintf("  %-26s ", name)
		b.WriteString(fill(t.Title, first, strings.Repeat(" ", 29)))
	}
	if format == "md" {
		fmt.Fprintf(&b, "\n## function\n\n%s\n", strings.Join(functions, ", "))
	} else {
		b.WriteString("\nFUNCTION\n" + fill(strings.Join(functions, ", "), "  ", "  "))
	}
	_, err := io.WriteString(w, strings.TrimLeft(b.String(), "\n"))
	return err
}

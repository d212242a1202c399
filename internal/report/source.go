package report

import (
	"fmt"
	"strings"

	"forkproof/internal/finding"
)

// at is where a finding is in a source, as compilers write it; empty where it is
// in none.
func at(p *finding.Place) string {
	switch {
	case p == nil:
		return ""
	case p.Line == 0:
		return name(p.File)
	case p.Column > 0:
		return fmt.Sprintf("%s:%d:%d", name(p.File), p.Line, p.Column)
	}
	return fmt.Sprintf("%s:%d", name(p.File), p.Line)
}

// linted sums up what lint found.
func linted(doc *finding.Document) summary {
	count := make(map[finding.Severity]int)
	for i := range doc.Findings {
		count[doc.Findings[i].Severity]++
	}
	var parts []string
	if n := count[finding.Critical]; n > 0 {
		parts = append(parts, plural(n, "critical finding"))
	}
	if n := count[finding.Warning]; n > 0 {
		parts = append(parts, plural(n, "warning"))
	}
	if n := count[finding.Info]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d for information", n))
	}
	rest := strings.Join(parts, ", ")
	switch {
	case count[finding.Critical] > 0:
		return summary{"HAZARDS", rest, bad}
	case count[finding.Warning] > 0:
		return summary{"HAZARDS", rest, warn}
	case rest != "":
		return summary{"NO HAZARD FOUND", rest, good}
	}
	return summary{"NO HAZARD FOUND", "which is not to say that there is none", good}
}

// source writes the findings as a compiler does, a line each that an editor can
// follow, with why and what to do below it.
func (p *printer) source(doc *finding.Document) {
	var before string
	for i := range doc.Findings {
		f := &doc.Findings[i]
		where := at(f.Place)
		if where == "" {
			where = "forkproof"
		}
		word := f.Severity.String()
		// The line is never broken: a place that is whole can be clicked.
		p.line(fmt.Sprintf("%s%s:%s %s%s:%s %s [%s]", p.bold, where, p.off, p.of(class(f.Severity)), word, p.off, prose(f.Title), f.Rule))
		for _, e := range f.Evidence {
			p.line("    " + p.dim + prose(e) + p.off)
		}
		said := f.Why + strings.Join(f.Remedy, "\x00")
		if f.Severity == finding.Info && !p.verbose || said == before {
			continue
		}
		before = said
		p.wrap(prose(f.Why), "", 0, "    ", "    ")
		for _, r := range f.Remedy {
			p.wrap(prose(r), "", 0, "    do: ", "        ")
		}
		if f.Fact != "" {
			p.line("    more: forkproof explain " + name(f.Fact))
		}
	}
	if len(doc.Findings) > 0 {
		p.line("")
	}
	for _, s := range subjects(doc) {
		text := s.Title
		if s.Command != "" {
			text += ", " + s.Command
		}
		for _, a := range s.Answers {
			text += ": loaded before the fork: " + a.Short
			if len(a.Says) > 0 {
				text += " (" + strings.Join(a.Says, "; ") + ")"
			}
		}
		p.wrap(text, "", 0, "", "  ")
	}
	for _, n := range notes(doc) {
		p.wrap(n, "", 0, "", "  ")
	}
	v := verdict(doc)
	p.wrap(v.Word+": "+v.Rest, p.of(v.Class), len(v.Word), "", "")
}

package report

import (
	"cmp"
	"fmt"
	"strings"

	"forkproof/internal/finding"
)

// subject is a target of the command check: what was looked at, and the answers.
type subject struct {
	Title, About, Command string
	Verdict, Class        string
	Answers               []answer
}

// answer is a question with its answer, as visible text.
type answer struct {
	Question, Short string
	Says            []string
	Code            string
}

// checkWords are the verdicts of check with how they are written.
var checkWords = map[string]summary{
	"unsafe":  {Word: "NOT SAFE", Class: bad},
	"hazards": {Word: "HAZARDS", Class: warn},
	"unknown": {Word: "NOT KNOWN", Class: warn},
	"clear":   {Word: "NOTHING FOUND AGAINST IT", Class: good},
}

// checked sums up what check said of all targets: the worst of them by name.
func checked(doc *finding.Document) summary {
	if len(doc.Targets) == 0 {
		return summary{"NOTHING WAS LOOKED AT", "no target", plain}
	}
	var s summary
	for _, word := range []string{"unsafe", "hazards", "unknown", "clear"} {
		var who []string
		for i := range doc.Targets {
			if doc.Targets[i].Verdict == word {
				who = append(who, called(&doc.Targets[i]))
			}
		}
		if len(who) == 0 {
			continue
		}
		s = checkWords[word]
		s.Rest = who[0]
		if len(who) > 1 {
			s.Rest += fmt.Sprintf(" and %s alike", plural(len(who)-1, "other"))
		}
		break
	}
	count := make(map[finding.Severity]int)
	for i := range doc.Findings {
		count[doc.Findings[i].Severity]++
	}
	var parts []string
	for _, sev := range []finding.Severity{finding.Critical, finding.Warning} {
		if n := count[sev]; n > 0 {
			parts = append(parts, plural(n, map[finding.Severity]string{finding.Critical: "critical finding", finding.Warning: "warning"}[sev]))
		}
	}
	if n := count[finding.Info]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d for information", n))
	}
	if len(parts) > 0 {
		s.Rest += "; " + strings.Join(parts, ", ")
	}
	return s
}

// called is the name of a target for people.
func called(t *finding.Target) string {
	switch {
	case t.PID == 0:
		return name(cmp.Or(t.Name, "this machine"))
	case t.Role == "master":
		return fmt.Sprintf("%s, master %d", name(cmp.Or(t.Server, "pre-fork server")), t.PID)
	}
	return fmt.Sprintf("process %d", t.PID)
}

// subjects are the targets of check and lint, nil of any other command.
func subjects(doc *finding.Document) []subject {
	if doc.Command != "check" && doc.Command != "lint" {
		return nil
	}
	var out []subject
	for i := range doc.Targets {
		t := &doc.Targets[i]
		s := subject{Title: called(t), About: about(t), Verdict: checkWords[t.Verdict].Word, Class: checkWords[t.Verdict].Class}
		if t.Command != "" {
			s.Command = name(t.Command)
		}
		for _, a := range t.Answers {
			s.Answers = append(s.Answers, answer{prose(a.Question), prose(a.Short), each(a.Says), visibleLines(strings.TrimRight(a.Code, "\n"))})
		}
		out = append(out, s)
	}
	return out
}

// visibleLines makes code visible line by line: a line feed is the one character
// that may command a terminal.
func visibleLines(code string) string {
	lines := strings.Split(code, "\n")
	for i, l := range lines {
		rest := strings.TrimLeft(l, " ")
		lines[i] = l[:len(l)-len(rest)] + name(rest)
	}
	return strings.Join(lines, "\n")
}

// answers writes what was looked at and the answers.
func (p *printer) answers(doc *finding.Document) {
	for _, s := range subjects(doc) {
		p.line("")
		p.wrap(s.Title+": "+strings.ToLower(s.Verdict), p.of(s.Class), len(s.Title), "", "  ")
		if s.About != "" {
			p.line("  " + p.dim + cut(s.About, p.width-2) + p.off)
		}
		if s.Command != "" {
			p.line("  " + p.dim + cut(s.Command, p.width-2) + p.off)
		}
		for i, a := range s.Answers {
			p.wrap(a.Question+" "+a.Short, p.bold, len(a.Question), "  ", "    ")
			for _, line := range a.Says {
				p.wrap(line, "", 0, "    - ", "      ")
			}
			if a.Code != "" {
				p.line("")
				for line := range strings.SplitSeq(a.Code, "\n") {
					p.line(strings.TrimRight("      "+line, " "))
				}
				if i < len(s.Answers)-1 {
					p.line("")
				}
			}
		}
	}
}

// terse reports whether a block is written in one line: what is for information
// alone would bury the rest of a check, which lists every published fact.
func (p *printer) terse(doc *finding.Document, b *block) bool {
	return doc.Command == "check" && b.Severity == finding.Info && !p.verbose
}

package lint

import (
	"slices"
	"strings"

	"forkproof/internal/finding"
)

// ignore is a comment "forkproof: ignore[rule, rule] reason".
type ignore struct {
	file         string
	line, column int
	// covers are the lines that it is about: its own, or, where it stands alone,
	// the one that follows.
	covers []int
	rules  []finding.Rule
	reason string
	used   bool
}

const marker = "forkproof: ignore"

// parseIgnore reads a comment; ok is false of one that is none.
func parseIgnore(text string) (ig ignore, ok bool) {
	i := strings.Index(text, marker)
	if i < 0 {
		return ig, false
	}
	rest := text[i+len(marker):]
	if list, found := strings.CutPrefix(rest, "["); found {
		list, rest, found = strings.Cut(list, "]")
		if !found {
			return ig, false
		}
		for _, r := range strings.Split(list, ",") {
			if r = strings.TrimSpace(r); r != "" {
				ig.rules = append(ig.rules, finding.Rule(r))
			}
		}
	} else if rest != "" && rest[0] != ' ' {
		return ig, false
	}
	ig.reason = strings.Trim(rest, " \t-:")
	return ig, true
}

// ignores are those of one file: of Python its comments, of others what follows a
// # or ; on a line.
func (j *job) ignores(f file) []*ignore {
	var out []*ignore
	if f.kind == "python" {
		comments, err := j.py.Comments(f.path)
		if err != nil {
			return nil
		}
		alone := make(map[int]bool)
		for _, c := range comments {
			alone[int(c.Line)] = c.Alone
		}
		for _, c := range comments {
			ig, ok := parseIgnore(c.Text)
			if !ok {
				continue
			}
			ig.file, ig.line, ig.column = f.path, int(c.Line), int(c.Col)+1
			next := ig.line
			for c.Alone && alone[next] {
				next++ // other comments may stand between
			}
			ig.covers = []int{ig.line, next}
			out = append(out, &ig)
		}
		return out
	}
	text, ok := j.text(f.path)
	if !ok || !strings.Contains(text, marker) {
		return nil
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		i := strings.IndexAny(line, "#;")
		if i < 0 {
			continue
		}
		ig, ok := parseIgnore(strings.TrimSpace(line[i:]))
		if !ok {
			continue
		}
		ig.file, ig.line, ig.column = f.path, n, i+1
		ig.covers = []int{n}
		if strings.TrimSpace(line[:i]) == "" {
			ig.covers = append(ig.covers, n+1)
		}
		out = append(out, &ig)
	}
	return out
}

// suppress takes out the findings that comments speak of, and says which comments
// are of no use.
func (j *job) suppress() {
	byFile := make(map[string][]*ignore)
	var all []*ignore
	for _, f := range j.files {
		for _, ig := range j.ignores(f) {
			byFile[f.path] = append(byFile[f.path], ig)
			all = append(all, ig)
		}
	}
	// A configuration alone leads to sources that were not named.
	for _, f := range j.findings {
		if f.Place == nil || !strings.HasSuffix(f.Place.File, ".py") || byFile[f.Place.File] != nil || j.walked(f.Place.File) {
			continue
		}
		byFile[f.Place.File] = append(j.ignores(file{path: f.Place.File, kind: "python"}), &ignore{})
	}
	left := 0
	j.findings = slices.DeleteFunc(j.findings, func(f finding.Finding) bool {
		if f.Place == nil {
			return false
		}
		gone := false
		for _, ig := range byFile[f.Place.File] {
			if ig.about(f) {
				ig.used, gone = true, true
			}
		}
		if gone {
			left++
		}
		return gone
	})
	if left > 0 {
		j.note("left out, as comments ask: " + count(left, "finding"))
	}
	for _, ig := range all {
		say := func(sev finding.Severity, title, why, do string) {
			j.findings = append(j.findings, finding.Finding{Rule: finding.Suppression, Severity: sev, Confidence: finding.Inferred, Title: title, Why: why, Remedy: []string{do},
				Place: &finding.Place{File: ig.file, Line: ig.line, Column: ig.column}})
		}
		switch {
		case len(ig.rules) == 0:
			say(finding.Warning, "a comment ignores findings without naming a rule", "It is not heeded: it would hide what is found later too.", "Name the rule in brackets: # forkproof: ignore[thread-before-fork] reason.")
		case ig.reason == "":
			say(finding.Warning, "a comment ignores a finding and gives no reason", "Whoever reads it later cannot tell whether it still holds.", "Write the reason behind the brackets.")
		}
		for _, r := range ig.rules {
			if !slices.Contains(finding.Rules(), r) {
				say(finding.Warning, "a comment ignores "+string(r)+", which is no rule", "Nothing is left out by it.", "See docs/rules.md for their names.")
			}
		}
		if !ig.used && len(ig.rules) > 0 {
			say(finding.Info, "a comment ignores what is not found here", "The code was changed, or the comment stands on another line than the finding.", "Delete the comment.")
		}
	}
}

func (j *job) walked(path string) bool {
	return slices.ContainsFunc(j.files, func(f file) bool { return f.path == path })
}

// about reports whether a comment speaks of a finding.
func (ig *ignore) about(f finding.Finding) bool {
	if !slices.Contains(ig.rules, f.Rule) {
		return false
	}
	end := max(f.Place.Line, f.Place.EndLine)
	if end > f.Place.Line+20 {
		end = f.Place.Line
	}
	return slices.ContainsFunc(ig.covers, func(n int) bool { return n >= f.Place.Line && n <= end })
}

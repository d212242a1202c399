package facts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Library returns the libraries that the evidence fits, each once, in the order
// of their ids. An installed package is evidence that a library is there, not
// that a process loaded it: that is for the caller to say.
func (b *Base) Library(e Evidence) []Match {
	found := make(map[*Library]string)
	add := func(l *Library, by string) {
		if _, ok := found[l]; !ok {
			found[l] = by
		}
	}
	if e.File != "" {
		for _, p := range b.patterns() {
			if p.re.MatchString(e.File) {
				add(p.library, "file "+e.File)
			}
		}
	}
	python := Normalise(e.Python)
	for _, l := range b.libraries {
		switch {
		case e.Package.Name != "" && slices.Contains(l.Packages, e.Package.Name):
			add(l, "package "+e.Package.Name)
		case python != "" && slices.Contains(l.Python, python):
			add(l, "Python distribution "+e.Python)
		case e.HasSymbol != nil:
			if i := slices.IndexFunc(l.Symbols, e.HasSymbol); i >= 0 {
				add(l, "symbol "+l.Symbols[i])
			}
		}
	}
	version := e.Version
	if version == "" && e.Package.Version != "" {
		version = Upstream(e.Package.Ecosystem, e.Package.Version)
	}
	var out []Match
	for _, l := range b.libraries {
		if by, ok := found[l]; ok {
			m := l.match(by, version)
			if m.Range == nil && m.Version == "" {
				m.atLeast(e.File)
			}
			out = append(out, m)
		}
	}
	return out
}

// match says how a version of a library behaves.
func (l *Library) match(by, version string) Match {
	m := Match{Library: l, By: by, Version: version}
	for i, r := range l.Ranges {
		if i == 0 || graver(r, m.Worst) {
			m.Worst = r
		}
	}
	if !isVersion(version) {
		m.Version = ""
		if len(l.Ranges) == 1 && l.Ranges[0].From == "" && l.Ranges[0].Until == "" {
			m.Range = &l.Ranges[0]
			return m
		}
		m.Says = fmt.Sprintf("which version of %s it is could not be told, so the worst is assumed", l.Name)
		return m
	}
	for i := range l.Ranges {
		if r := &l.Ranges[i]; (Range{From: r.From, Until: r.Until}).Holds(version) {
			m.Range = r
			return m
		}
	}
	m.Says = fmt.Sprintf("nothing is known of %s %s, so the worst is assumed", l.Name, version)
	return m
}

// atLeast finds the range of a version that is not known from what the file's name
// tells: if even the oldest version of that name lies in the last range, so do all.
func (m *Match) atLeast(file string) {
	last := &m.Library.Ranges[len(m.Library.Ranges)-1]
	for _, x := range m.Library.Least {
		// The schema's test has compiled every one of them.
		if re, err := regexp.Compile(x.File); err == nil && re.MatchString(file) && (Range{From: last.From, Until: last.Until}).Holds(x.Version) {
			m.Range, m.Says = last, ""
			return
		}
	}
}

// graver orders ranges by severity, then by how little they heal.
func graver(a, b LibraryRange) bool {
	if a.Severity != b.Severity {
		return slices.Index(severities, a.Severity) > slices.Index(severities, b.Severity)
	}
	return slices.Index(healing, a.Heals) > slices.Index(healing, b.Heals)
}

// severities and healing are ordered, best first.
var (
	severities = []Severity{"info", "warning", "critical"}
	healing    = []string{"yes", "detects", "partly", "no"}
)

var runs = regexp.MustCompile(`[-_.]+`)

// Normalise is the name of a Python distribution as indexes compare it (PEP 503).
func Normalise(name string) string { return runs.ReplaceAllString(strings.ToLower(name), "-") }

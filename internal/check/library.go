package check

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"forkproof/internal/facts"
)

// library is one library that fork may harm, as it was found.
type library struct {
	facts.Match
	// where is the file, package or distribution that tells.
	where string
	// loaded: it is mapped in the process, or linked into its program.
	loaded bool
	// later: the master does not have it; a worker loaded it after the fork.
	later bool
	// own: it is loaded by a program by itself, as the program's headers say.
	own bool
}

// libraries gathers what matches, each library once.
type libraries struct {
	base *facts.Base
	all  []library
}

// add takes a match unless a better one of the same library is there: one that is
// loaded beats one that is not, and one with a version beats one without.
func (l *libraries) add(x library) {
	i := slices.IndexFunc(l.all, func(o library) bool { return o.Library.ID == x.Library.ID })
	if i < 0 {
		l.all = append(l.all, x)
		return
	}
	o := &l.all[i]
	switch {
	case o.loaded && !o.later && (!x.loaded || x.later):
		// A package or distribution tells the version of what is loaded.
		if o.Version == "" && x.Version != "" && !strings.Contains(o.where, "-packages/") == !strings.Contains(x.where, "-packages/") {
			o.Version, o.Range, o.Worst, o.Says = x.Version, x.Range, x.Worst, x.Says
		}
	case x.loaded && !x.later && (!o.loaded || o.later), o.Version == "" && x.Version != "":
		version := *o
		*o = x
		if o.Version == "" && version.Version != "" && !strings.Contains(o.where, "-packages/") == !strings.Contains(version.where, "-packages/") {
			o.Version, o.Range, o.Worst, o.Says = version.Version, version.Range, version.Worst, version.Says
		}
	}
}

// sorted are the libraries by severity of what they do, worst first.
func (l *libraries) sorted() []library {
	rank := map[facts.Severity]int{"critical": 0, "warning": 1, "info": 2}
	slices.SortStableFunc(l.all, func(a, b library) int {
		if a.loaded != b.loaded {
			if a.loaded {
				return -1
			}
			return 1
		}
		if d := rank[a.behaves().Severity] - rank[b.behaves().Severity]; d != 0 {
			return d
		}
		return strings.Compare(a.Library.ID, b.Library.ID)
	})
	return l.all
}

// behaves is how the library behaves: of its version, or the worst where that is
// not known.
func (l *library) behaves() facts.LibraryRange {
	if l.Range != nil {
		return *l.Range
	}
	return l.Worst
}

// label is name and version.
func (l *library) label() string {
	if l.Version == "" {
		return l.Library.Name
	}
	return l.Library.Name + " " + l.Version
}

// python is the version in the names of interpreters and their libraries.
var python = regexp.MustCompile(`^(?:lib)?python(3\.[0-9]+)`)

// file matches a file by its name, and the package that it came with for its
// version.
func (l *libraries) file(s *system, name string, x library) {
	base := path.Base(name)
	if strings.Contains(name, "/openblas-openmp/") {
		// Debian tells its builds apart by the folder alone.
		base = "libopenblaso.so"
	}
	version := ""
	if v := python.FindStringSubmatch(base); v != nil {
		version = v[1]
	}
	for _, m := range l.base.Library(facts.Evidence{File: base, Version: version}) {
		if !x.loaded && s != nil {
			if _, err := s.Stat(strings.TrimPrefix(name, "/")); err != nil {
				return // a link to nothing
			}
		}
		x.Match, x.where = m, "/"+strings.TrimPrefix(name, "/")
		if s != nil && distributed(name) {
			if p := s.pkg(m.Library.Packages...); p.Version != "" {
				for _, better := range l.base.Library(facts.Evidence{File: base, Package: p}) {
					if better.Library.ID == m.Library.ID {
						x.Match = better
					}
				}
			}
		}
		l.add(x)
	}
}

// distributed reports whether a file lies where a distribution's packages put
// libraries, and not Python's or somebody's own.
func distributed(name string) bool {
	name = "/" + strings.TrimPrefix(name, "/")
	return (strings.HasPrefix(name, "/usr/lib") || strings.HasPrefix(name, "/lib")) && !strings.Contains(name, "/site-packages/") && !strings.Contains(name, "/dist-packages/")
}

// installed matches everything that is installed in a root.
func (l *libraries) installed(s *system, c contents) {
	for _, p := range s.db.Packages {
		for _, m := range l.base.Library(facts.Evidence{Package: s.fact(p)}) {
			l.add(library{Match: m, where: "package " + p.Name + " " + p.Version})
		}
	}
	for _, d := range c.dists {
		for _, m := range l.base.Library(facts.Evidence{Python: d.name, Version: d.version}) {
			l.add(library{Match: m, where: "/" + d.meta})
		}
	}
	for _, f := range c.files {
		// By the name of what a link leads to: alternatives have one name.
		if real, err := s.Resolve(f); err == nil && strings.Contains(real, "/openblas-openmp/") {
			f = real
		}
		l.file(s, f, library{})
	}
}

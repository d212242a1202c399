// Package crosscheck puts what was measured on real C libraries beside what is
// documented of them, and says where the two disagree. What is documented is
// package facts, what was measured the results of package probe.
package crosscheck

import (
	"slices"
	"strings"

	"forkproof/internal/facts"
	"forkproof/internal/probe"
)

// Documented is what the facts say of one thing in one build.
type Documented string

// What the facts may say.
const (
	// Has: it is broken in this build.
	Has Documented = "broken"
	// May: it is broken in this version; a package may have mended it.
	May Documented = "may be broken"
	// Sound: it works in this build: not broken yet, mended, or repaired by fork.
	Sound Documented = "sound"
	// Silent: the facts say nothing of it.
	Silent Documented = "nothing known"
)

// Agreement is how a measurement stands to what is documented.
type Agreement string

// The agreements. Only Contradicts is certain to be somebody's mistake.
const (
	Agrees Agreement = "agrees"
	// Contradicts: it broke, where it is documented to be sound.
	Contradicts Agreement = "contradicts"
	// NotSeen: it is documented to be broken and was not seen to break: that is
	// evidence by the number of forks, no proof.
	NotSeen Agreement = "not seen"
	// News: it broke, and the facts say nothing of it.
	News Agreement = "news"
	// Open: nothing was measured, or there is nothing to compare with.
	Open Agreement = "open"
)

// Cell is one probe on one build.
type Cell struct {
	Documented Documented `json:"documented"`
	// Facts are the ids of the entries that say so.
	Facts    []string      `json:"facts,omitempty"`
	Measured probe.Outcome `json:"measured,omitempty"`
	// Forks is how many forks were tried, Proven whether the hang was.
	Forks     int       `json:"forks,omitempty"`
	Proven    bool      `json:"proven,omitempty"`
	Agreement Agreement `json:"agreement"`
	// Lock is what was waited for.
	Lock string `json:"lock,omitempty"`
}

// Row is one probe on all builds.
type Row struct {
	Probe string `json:"probe"`
	Title string `json:"title"`
	// Facts are the ids of the entries that speak of it.
	Facts []string `json:"facts,omitempty"`
	// Cells are one for each build; the Agreement of one that was not measured is
	// Open.
	Cells []Cell `json:"cells"`
}

// Table is all that was measured beside all that is documented.
type Table struct {
	Builds []probe.Libc `json:"builds"`
	Rows   []Row        `json:"rows"`
}

// Count is how many cells stand so.
func (t Table) Count(a Agreement) int {
	n := 0
	for _, r := range t.Rows {
		for _, c := range r.Cells {
			if c.Agreement == a {
				n++
			}
		}
	}
	return n
}

// Compare makes the table. Probes of allocators in place of malloc are left out:
// they tell nothing of the C library.
func Compare(b *facts.Base, reports []probe.Report) Table {
	var t Table
	verdicts := make([]facts.Verdict, len(reports))
	for i, r := range reports {
		t.Builds = append(t.Builds, r.Libc)
		verdicts[i] = b.Libc(build(r.Libc))
	}
	for _, p := range probe.All() {
		if p.Group == probe.Allocator {
			continue
		}
		row := Row{Probe: p.Name, Title: p.Title, Cells: make([]Cell, len(reports))}
		for i, r := range reports {
			documented, ids := say(b, verdicts[i], p)
			row.Cells[i] = Cell{Documented: documented, Agreement: Open}
			for _, id := range ids {
				if !slices.Contains(row.Facts, id) {
					row.Facts = append(row.Facts, id)
				}
			}
			if k := slices.IndexFunc(r.Results, func(x probe.Result) bool { return x.Probe == p.Name }); k >= 0 {
				row.Cells[i] = compare(documented, r.Results[k])
			}
			row.Cells[i].Facts = ids
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// build is a measured libc as the facts name it.
func build(l probe.Libc) facts.Build {
	b := facts.Build{Family: l.Family, Version: l.Version}
	if l.Package != "" {
		// Only Debian's and Ubuntu's builds say the version of their package.
		b.Package = facts.Package{Ecosystem: facts.Deb, Name: "libc6", Version: l.Package}
		for release, upstream := range map[string]string{"11": "+deb11", "12": "+deb12", "13": "+deb13"} {
			if strings.Contains(l.Package, upstream) {
				b.Package.Distribution, b.Package.Release = "debian", release
			}
		}
	}
	return b
}

// say finds what the facts say of a probe in a build, and which entries do: the
// defects that name the probe, else the locks of its functions, the hazards that
// no C library spares a program, and the repairs.
func say(b *facts.Base, v facts.Verdict, p probe.Probe) (Documented, []string) {
	if v.Standing != facts.Covered {
		return Silent, nil
	}
	out, ids := Silent, []string(nil)
	for _, j := range v.Defects {
		if !slices.Contains(j.Defect.Probes, p.Name) {
			continue
		}
		ids = append(ids, j.ID)
		switch {
		case j.State == facts.Applies:
			out = Has
		case j.State == facts.Possible && out != Has:
			out = May
		case !j.Open() && out == Silent:
			out = Sound
		}
	}
	if out != Silent {
		return out, ids
	}
	// A pair hangs where the two take one lock.
	first, second, pair := strings.Cut(p.Name, "+")
	for _, l := range v.Locks {
		if slices.Contains(l.Probes, p.Name) || calls(l.Functions, p.Group, first) && (!pair || calls(l.Functions, p.Group, second)) {
			out, ids = Has, append(ids, l.ID)
		}
	}
	for _, h := range b.Hazards() {
		if slices.Contains(h.Probes, p.Name) {
			out, ids = Has, append(ids, h.ID)
		}
	}
	if out != Silent || pair {
		return out, ids
	}
	for _, r := range b.Repairs() {
		if r.Family == v.Family && slices.ContainsFunc(r.Ranges, func(x facts.Range) bool { return x.Holds(v.Version) }) && calls(r.Functions, p.Group, p.Name) {
			out, ids = Sound, append(ids, r.ID)
		}
	}
	return out, ids
}

// calls reports whether a probe of this name is about one of the functions. Those
// that call a function in a special way carry a second word: fflush-all.
func calls(functions []string, g probe.Group, name string) bool {
	if g != probe.Function && g != probe.Pair {
		return false
	}
	first, _, _ := strings.Cut(name, "-")
	return slices.ContainsFunc(functions, func(f string) bool { return f == name || f == strings.ReplaceAll(name, "-", "_") || f == first })
}

func compare(d Documented, r probe.Result) Cell {
	c := Cell{Documented: d, Measured: r.Outcome, Forks: r.Forks, Proven: r.Proven, Agreement: Open}
	if r.Proof != nil {
		c.Lock = r.Proof.Lock
	}
	switch {
	case r.Outcome.Bad() && d == Sound:
		c.Agreement = Contradicts
	case r.Outcome.Bad() && d == Silent:
		c.Agreement = News
	case r.Outcome.Bad():
		c.Agreement = Agrees
	case r.Outcome == probe.Works && d == Has:
		c.Agreement = NotSeen
	case r.Outcome == probe.Works && d == Sound:
		c.Agreement = Agrees
	}
	return c
}

// Of returns what was measured of one entry of the facts, by id, or of a function
// of a C library, by name: a line for the probes that came to the same.
func (t Table) Of(id string) []string {
	var texts []string
	probes := make(map[string][]string) // by what is said of them
	for _, r := range t.Rows {
		var order []string
		builds := make(map[string][]string)
		for i, c := range r.Cells {
			if c.Measured == "" || c.Measured == probe.NotReached || !slices.Contains(c.Facts, id) && r.Probe != id {
				continue
			}
			what := string(c.Measured)
			if c.Proven {
				what += " (proven)"
			}
			if builds[what] == nil {
				order = append(order, what)
			}
			builds[what] = append(builds[what], t.Builds[i].Name())
		}
		var parts []string
		for _, what := range order {
			parts = append(parts, what+" on "+strings.Join(builds[what], ", "))
		}
		if text := strings.Join(parts, "; "); text != "" {
			if probes[text] == nil {
				texts = append(texts, text)
			}
			probes[text] = append(probes[text], r.Probe)
		}
	}
	var out []string
	for _, text := range texts {
		out = append(out, strings.Join(probes[text], ", ")+": "+text)
	}
	return out
}

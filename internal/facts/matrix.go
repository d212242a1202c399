package facts

import (
	"slices"
	"strings"
)

// Matrix is the table of C libraries by version: which defects each has, and
// which distributions ship it.
type Matrix struct {
	Libcs []MatrixLibc `json:"libcs"`
	// Machine is how the machine asked about stands to it; nil where no C library
	// was given.
	Machine *Machine `json:"machine,omitempty"`
}

// Machine is one C library that was found, against the matrix.
type Machine struct {
	Package Package `json:"package"`
	Verdict Verdict `json:"verdict"`
	// Row is the version whose row it is, empty where it is older than the data.
	Row string `json:"row,omitempty"`
}

// MatrixLibc is the part of one C library.
type MatrixLibc struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Documented bool   `json:"documented"`
	// Defects are the columns.
	Defects []Column `json:"defects"`
	Rows    []Row    `json:"rows"`
	// Ships are the releases of distributions that ship this library.
	Ships []Ship `json:"ships,omitempty"`
}

// Column is one defect.
type Column struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`
	Severity Severity `json:"severity"`
	Ranges   []Range  `json:"ranges"`
	Branches []Branch `json:"branches,omitempty"`
}

// Row is one upstream release.
type Row struct {
	Version
	// Has are the defects of the release as it was first published.
	Has []string `json:"has"`
	// New and Gone are those that the release before it had not, or had.
	New  []string `json:"new,omitempty"`
	Gone []string `json:"gone,omitempty"`
	// Mended are those of Has that the release's branch mended later.
	Mended []string `json:"mended_on_branch,omitempty"`
	// Shipped are the names of the distributions' releases that ship it.
	Shipped []string `json:"shipped_by,omitempty"`
	// Here marks this machine's row.
	Here bool `json:"here,omitempty"`
}

// Ship is one release of a distribution.
type Ship struct {
	Distribution
	// Backported are the defects that its package has mended against its upstream
	// version, and since which package version.
	Backported []Since `json:"backported,omitempty"`
	// Has are the defects that its package was seen to have, though a later
	// release or the branch mended them.
	Has []Since `json:"seen_with,omitempty"`
	// Here marks this machine's release.
	Here bool `json:"here,omitempty"`
}

// Since is a defect and a package version.
type Since struct {
	ID      string `json:"id"`
	Package string `json:"package"`
}

// Matrix returns the table. The build found on this machine is marked; a zero
// Build marks nothing.
func (b *Base) Matrix(here Build) Matrix {
	var m Matrix
	for _, f := range b.families {
		m.Libcs = append(m.Libcs, b.matrixOf(f, here))
	}
	if here.Family == "" {
		return m
	}
	m.Machine = &Machine{Package: here.Package, Verdict: b.Libc(here)}
	if f, ok := b.Family(here.Family); ok && !f.Documented && isVersion(here.Version) && m.Machine.Verdict.Standing != Newer {
		if r, ok := f.row(here.Version); ok {
			m.Machine.Row = r.Version
		}
	}
	return m
}

func (b *Base) matrixOf(f Family, here Build) MatrixLibc {
	out := MatrixLibc{ID: f.ID, Name: f.Name, Documented: f.Documented}
	var defects []*Defect
	for _, d := range b.defects {
		if d.Subject == f.ID {
			defects = append(defects, d)
			out.Defects = append(out.Defects, Column{ID: d.ID, Title: d.Title, Severity: d.Severity, Ranges: d.Ranges, Branches: d.Branches})
		}
	}
	mark := ""
	if here.Family == f.ID && !f.Documented && isVersion(here.Version) && !newer(here.Version, f.Newest()) {
		r, _ := f.row(here.Version)
		mark = r.Version
	}
	var before []string
	for i, v := range f.Versions {
		row := Row{Version: v, Here: v.Version == mark}
		for _, d := range defects {
			if slices.ContainsFunc(d.Ranges, func(r Range) bool { return r.Holds(v.Version) }) {
				row.Has = append(row.Has, d.ID)
				if slices.ContainsFunc(d.Branches, func(x Branch) bool { return x.Version == v.Version }) {
					row.Mended = append(row.Mended, d.ID)
				}
			}
		}
		if i > 0 {
			row.New, row.Gone = without(row.Has, before), without(before, row.Has)
		}
		for _, d := range b.distributions {
			if d.Family == f.ID && d.Version == v.Version {
				row.Shipped = append(row.Shipped, d.Name)
			}
		}
		before = row.Has
		out.Rows = append(out.Rows, row)
	}
	for _, d := range b.distributions {
		if d.Family == f.ID {
			out.Ships = append(out.Ships, b.ship(d, defects, here))
		}
	}
	return out
}

// ship says what a distribution's release did about the defects.
func (b *Base) ship(d *Distribution, defects []*Defect, here Build) Ship {
	s := Ship{Distribution: *d}
	s.Here = d.is(here.Package)
	for _, x := range defects {
		for _, y := range x.Packages {
			if y.Distribution == d.ID && y.Release == d.Release {
				s.Backported = append(s.Backported, Since{x.ID, y.gotWith()})
			}
		}
		for _, y := range x.Still {
			if y.Distribution == d.ID && y.Release == d.Release {
				s.Has = append(s.Has, Since{x.ID, y.Through})
			}
		}
	}
	return s
}

// without returns the members of a that b lacks.
func without(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

// Means says in a few lines what a verdict implies for a pre-fork server.
func (v Verdict) Means() []string {
	var out []string
	if v.Says != "" {
		out = append(out, v.Says)
	}
	out = append(out, v.Summary...)
	var has, may []string
	for _, j := range v.Defects {
		switch {
		case j.Defect.Severity == "info":
		case j.State == Applies:
			has = append(has, j.ID)
		case j.State == Possible:
			may = append(may, j.ID)
		}
	}
	if len(has) > 0 {
		out = append(out, "known defects of this build: "+strings.Join(has, ", "))
	}
	if len(may) > 0 {
		out = append(out, "known defects of this version, which the distribution may have mended: "+strings.Join(may, ", "))
	}
	if len(has)+len(may) > 0 {
		out = append(out, "'forkproof explain ID' says what each is")
	}
	return out
}

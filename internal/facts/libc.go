package facts

// Family is a C library.
type Family struct {
	// ID is glibc, musl, bionic, freebsd, netbsd, openbsd, macos, uclibc-ng; the
	// first two are what package libc calls its families.
	ID   string `toml:"id" json:"id"`
	Name string `toml:"name" json:"name"`
	// Documented: its rows were read in the source alone; forkproof cannot look
	// at its processes.
	Documented bool `toml:"documented" json:"documented"`
	// Summary says in a few lines what fork repairs in the child and what not.
	Summary  []string  `toml:"summary" json:"summary"`
	Versions []Version `toml:"version" json:"versions"`
	Sources  []Source  `toml:"source" json:"sources"`
	Basis    Basis     `toml:"basis" json:"basis"`
}

// Newest is the newest version that the data cover.
func (f Family) Newest() string {
	if len(f.Versions) == 0 {
		return ""
	}
	return f.Versions[len(f.Versions)-1].Version
}

// Oldest is the oldest version that the data cover.
func (f Family) Oldest() string {
	if len(f.Versions) == 0 {
		return ""
	}
	return f.Versions[0].Version
}

// Version is one upstream release of a C library: a row of the matrix.
type Version struct {
	// Version is a release; for a documented library the commit or revision that
	// was read.
	Version string `toml:"version" json:"version"`
	// Released is the day of the tag, YYYY-MM-DD, empty where not looked up.
	Released string `toml:"released" json:"released,omitempty"`
	// Malloc says whether malloc works in the child of a process with threads:
	// yes, no, or corrupts.
	Malloc string `toml:"malloc" json:"malloc"`
	// Fork says what this release changed in what fork does.
	Fork string `toml:"fork" json:"fork,omitempty"`
	// Ran: a build of this version was run.
	Ran bool `toml:"ran" json:"ran"`
}

// Defect is a known defect of a C library or a server.
type Defect struct {
	// ID is the tracker's, for example BZ-24595, or a name where no tracker has it.
	ID      string   `toml:"id" json:"id"`
	Aliases []string `toml:"aliases" json:"aliases,omitempty"`
	// Subject is a libc family or server id.
	Subject  string   `toml:"subject" json:"subject"`
	Title    string   `toml:"title" json:"title"`
	Severity Severity `toml:"severity" json:"severity"`
	// Where it hangs: worker, master, or both.
	Where string `toml:"where" json:"where"`
	// Threads: it needs a second thread in the master.
	Threads   bool   `toml:"threads" json:"threads"`
	Mechanism string `toml:"mechanism" json:"mechanism"`
	// Steps are what happens, in order.
	Steps []string `toml:"steps" json:"steps"`
	// Trigger is the least that makes it happen.
	Trigger string `toml:"trigger" json:"trigger"`
	// See is how to see it in a process.
	See []string `toml:"see" json:"see,omitempty"`
	// Calls are the functions whose use in a handler or worker meets the defect.
	Calls []string `toml:"calls" json:"calls,omitempty"`
	// Probes are the names of forkproof's probes that show it where it is.
	Probes   []string   `toml:"probes" json:"probes,omitempty"`
	Ranges   []Range    `toml:"range" json:"ranges"`
	Branches []Branch   `toml:"branch" json:"branches,omitempty"`
	Packages []Backport `toml:"backport" json:"backports,omitempty"`
	Still    []Still    `toml:"still" json:"still,omitempty"`
	// Mark is a text which the fixed library file contains and the unfixed does
	// not; empty where none is known.
	Mark    string   `toml:"mark" json:"mark,omitempty"`
	Remedy  Remedies `toml:"remedy" json:"remedy"`
	Basis   Basis    `toml:"basis" json:"basis"`
	Sources []Source `toml:"source" json:"sources"`
}

// Branch is a fix on the maintenance branch of an upstream release. A build of
// that version may have it or not; its number does not tell.
type Branch struct {
	Version string `toml:"version" json:"version"`
	Commit  string `toml:"commit" json:"commit"`
	Date    string `toml:"date" json:"date,omitempty"`
}

// Backport is a fix in the package of a distribution.
type Backport struct {
	// Distribution is an id of the distributions' data, for example rhel.
	Distribution string    `toml:"distribution" json:"distribution"`
	Release      string    `toml:"release" json:"release"`
	Ecosystem    Ecosystem `toml:"ecosystem" json:"ecosystem"`
	Package      string    `toml:"package" json:"package"`
	// Fixed is the first package version that has the fix.
	Fixed string `toml:"fixed" json:"fixed"`
	// Latest: an earlier version may have it already; Fixed was looked at.
	Latest bool   `toml:"latest" json:"latest,omitempty"`
	Note   string `toml:"note" json:"note,omitempty"`
	Basis  Basis  `toml:"basis" json:"basis"`
}

// Still says that a package was looked at and has the defect.
type Still struct {
	Distribution string    `toml:"distribution" json:"distribution"`
	Release      string    `toml:"release" json:"release"`
	Ecosystem    Ecosystem `toml:"ecosystem" json:"ecosystem"`
	Package      string    `toml:"package" json:"package"`
	// Through is the newest package version that was looked at.
	Through string `toml:"through" json:"through"`
	Basis   Basis  `toml:"basis" json:"basis"`
}

// Lock is a lock of a C library that fork neither takes nor resets: what another
// thread held stays locked in the child, and the functions hang there.
type Lock struct {
	// ID is the family and the lock, for example glibc-tzset-lock.
	ID     string `toml:"id" json:"id"`
	Family string `toml:"family" json:"family"`
	// Symbol is the name in the library's debug information.
	Symbol string `toml:"symbol" json:"symbol"`
	File   string `toml:"file" json:"file"`
	Title  string `toml:"title" json:"title"`
	// Functions hang in the child while the lock is orphaned.
	Functions []string `toml:"functions" json:"functions"`
	// Probes are the names of forkproof's probes, besides those of the functions,
	// that show it.
	Probes []string `toml:"probes" json:"probes,omitempty"`
	// Python and Ruby name what in those languages reaches the functions.
	Python  []string `toml:"python" json:"python,omitempty"`
	Ranges  []Range  `toml:"range" json:"ranges"`
	Note    string   `toml:"note" json:"note,omitempty"`
	Basis   Basis    `toml:"basis" json:"basis"`
	RanOn   []string `toml:"ran_on" json:"ran_on,omitempty"`
	Sources []Source `toml:"source" json:"sources"`
}

// Repair is what fork itself makes usable again in the child.
type Repair struct {
	// ID is the family and the thing, for example glibc-malloc.
	ID        string   `toml:"id" json:"id"`
	Family    string   `toml:"family" json:"family"`
	Title     string   `toml:"title" json:"title"`
	Functions []string `toml:"functions" json:"functions"`
	Ranges    []Range  `toml:"range" json:"ranges"`
	Note      string   `toml:"note" json:"note,omitempty"`
	Basis     Basis    `toml:"basis" json:"basis"`
	Sources   []Source `toml:"source" json:"sources"`
}

// Package is an installed package, as a package database names it.
type Package struct {
	Ecosystem Ecosystem `json:"ecosystem,omitempty"`
	// Name is the binary package that owns the library: libc6, glibc, musl.
	Name string `json:"name,omitempty"`
	// Version is whole, as the ecosystem writes it: 2.36-9+deb12u14.
	Version string `json:"version,omitempty"`
	// Distribution and Release are ID and VERSION_ID of os-release, or
	// VERSION_CODENAME where that has no VERSION_ID.
	Distribution string `json:"distribution,omitempty"`
	Release      string `json:"release,omitempty"`
	// Source is the source package, where known.
	Source string `json:"source,omitempty"`
}

// Build is one C library as it was found.
type Build struct {
	Family string
	// Version is the upstream version, for example 2.36 or 1.2.5.
	Version string
	// Package is zero where no package database knows the file.
	Package Package
	// Contains reports whether the library's file contains a text; nil where the
	// file is not at hand.
	Contains func(text string) bool
}

// State says whether a defect is in a build.
type State string

// The states.
const (
	// Applies: the version has it, and either no release mended it, or this
	// package was looked at, or the file lacks the fix.
	Applies State = "applies"
	// Possible: the upstream version has it; whether this package mended it is
	// not known.
	Possible State = "possible"
	// Later: the version is older than the defect.
	Later State = "not-yet"
	// FixedUpstream: the version is newer than the defect.
	FixedUpstream State = "fixed-upstream"
	// Backported: the version has it, the package has the fix.
	Backported State = "backported"
)

// Standing says how a version stands to the data.
type Standing string

// The standings.
const (
	// Covered: the data cover this version.
	Covered Standing = "covered"
	// Newer: the version is newer than the data.
	Newer Standing = "newer-than-data"
	// Older: the version is older than the data.
	Older Standing = "older-than-data"
	// Unknown: the family is unknown, or the version could not be read.
	Unknown Standing = "unknown"
)

// Judged is one defect with regard to one build.
type Judged struct {
	Defect *Defect `json:"-"`
	ID     string  `json:"id"`
	State  State   `json:"state"`
	// Why says in a clause how that is known: "fixed upstream in 2.36",
	// "backported in glibc 2.28-206 of rhel 8".
	Why string `json:"why"`
}

// Open reports whether the defect applies or may.
func (j Judged) Open() bool { return j.State == Applies || j.State == Possible }

// Verdict is what the data say of one build.
type Verdict struct {
	Family   string   `json:"family"`
	Version  string   `json:"version"`
	Standing Standing `json:"standing"`
	// Says is one sentence on the standing, empty for Covered.
	Says string `json:"says,omitempty"`
	// Malloc is as in Version; empty unless Covered.
	Malloc string `json:"malloc,omitempty"`
	// Defects are all defects of the family, in the order of the data.
	Defects []Judged `json:"defects"`
	// Locks are those that stay locked in a worker with this version.
	Locks []*Lock `json:"-"`
	// Summary is the family's.
	Summary []string `json:"summary,omitempty"`
}

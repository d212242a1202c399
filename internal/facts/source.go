package facts

// Source is where a fact comes from. One of URL and Ref is set.
type Source struct {
	URL string `toml:"url" json:"url,omitempty"`
	// Ref is a bug id, commit, package version or file in the field's own form,
	// for example "glibc 52a103e237" or "sourceware BZ 24595".
	Ref string `toml:"ref" json:"ref,omitempty"`
	// Checked is the day on which somebody last looked, YYYY-MM-DD.
	Checked string `toml:"checked" json:"checked"`
}

func (s Source) String() string {
	switch {
	case s.URL == "":
		return s.Ref
	case s.Ref == "":
		return s.URL
	}
	return s.Ref + ", " + s.URL
}

// Basis says how a fact is known, strongest first.
type Basis string

// The bases.
const (
	// Run: somebody of this project made it happen on the real thing.
	Run Basis = "run"
	// Read: it was read in the source code or package of the thing.
	Read Basis = "read"
	// Reported: its makers or users say so in public.
	Reported Basis = "reported"
	// Unchecked: it is commonly held, and was not checked.
	Unchecked Basis = "unchecked"
)

// Says is the basis in words, as reports print it.
func (b Basis) Says() string {
	switch b {
	case Run:
		return "made to happen and seen"
	case Read:
		return "read in the source, not made to happen"
	case Reported:
		return "as reported in public"
	}
	return "commonly held, not checked"
}

// Severity says how much a fact matters where it applies: critical, warning or
// info, as in package finding.
type Severity string

// Range is a span of upstream versions: From <= version < Until. An empty From
// means as far back as anybody looked, an empty Until that no release that we know is free of it.
type Range struct {
	From  string `toml:"from" json:"from,omitempty"`
	Until string `toml:"until" json:"until,omitempty"`
	// Made and Mended are the commits or changes that began and ended it.
	Made   string `toml:"made" json:"made,omitempty"`
	Mended string `toml:"mended" json:"mended,omitempty"`
	// Note says what is special in this range.
	Note string `toml:"note" json:"note,omitempty"`
}

// Holds reports whether an upstream version lies in the range.
func (r Range) Holds(version string) bool {
	return (r.From == "" || CompareUpstream(version, r.From) >= 0) && (r.Until == "" || CompareUpstream(version, r.Until) < 0)
}

// Of is the range with the name of what has it: "glibc before 2.33".
func (r Range) Of(name string) string {
	if r.From == "" && r.Until == "" {
		return "all versions of " + name + " that were looked at"
	}
	return name + " " + r.String()
}

func (r Range) String() string {
	switch {
	case r.From == "" && r.Until == "":
		return "all versions looked at"
	case r.From == "":
		return "before " + r.Until
	case r.Until == "":
		return "from " + r.From + " on"
	}
	return "from " + r.From + " until before " + r.Until
}

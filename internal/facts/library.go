package facts

// Hazard is a class of what goes wrong with a library over fork.
type Hazard struct {
	// ID is OL, MT, SC, RNG, GPU or X.
	ID    string   `toml:"id" json:"id"`
	Title string   `toml:"title" json:"title"`
	Steps []string `toml:"steps" json:"steps"`
	See   []string `toml:"see" json:"see"`
	Do    []string `toml:"do" json:"do"`
	// Rules are forkproof's rules that find it in a running process.
	Rules []string `toml:"rules" json:"rules,omitempty"`
	// Probes are the names of forkproof's probes that show it with the program's
	// own objects, on any C library.
	Probes []string `toml:"probes" json:"probes,omitempty"`
	// Fixes are what Remedy writes where no library is named.
	Fixes   []Fix    `toml:"fix" json:"fixes,omitempty"`
	Sources []Source `toml:"source" json:"sources"`
}

// Library is a library that fork harms.
type Library struct {
	ID      string   `toml:"id" json:"id"`
	Aliases []string `toml:"aliases" json:"aliases,omitempty"`
	Name    string   `toml:"name" json:"name"`
	// Hazards are classes: OL orphaned locks, MT missing threads, SC shared
	// connections, RNG duplicated random numbers, GPU, X other.
	Hazards []string `toml:"hazards" json:"hazards"`
	// Files are regular expressions on the base name of a mapped or installed file.
	Files []string `toml:"files" json:"files,omitempty"`
	// Least are the oldest versions that file names tell of, where nothing else
	// tells the version.
	Least []Least `toml:"least" json:"least,omitempty"`
	// Packages are exact names of binary packages of any ecosystem.
	Packages []string `toml:"packages" json:"packages,omitempty"`
	// Python are distributions as PyPI names them, normalised (PEP 503).
	Python []string `toml:"python" json:"python,omitempty"`
	// Symbols are names in a program or library that has this one linked in.
	Symbols []string       `toml:"symbols" json:"symbols,omitempty"`
	Ranges  []LibraryRange `toml:"range" json:"ranges"`
	See     []string       `toml:"see" json:"see,omitempty"`
	Remedy  Remedies       `toml:"remedy" json:"remedy"`
	Basis   Basis          `toml:"basis" json:"basis"`
	Sources []Source       `toml:"source" json:"sources"`
}

// Least says that a file of this name is of a version or a later one.
type Least struct {
	// File is a regular expression on the base name, as in Library.Files.
	File    string `toml:"file" json:"file"`
	Version string `toml:"version" json:"version"`
}

// LibraryRange is how a library behaves in a span of its versions.
type LibraryRange struct {
	From  string `toml:"from" json:"from,omitempty"`
	Until string `toml:"until" json:"until,omitempty"`
	// Heals says whether it repairs itself in the child: yes, partly, no, or
	// detects (it refuses to work there, and says so).
	Heals    string   `toml:"heals" json:"heals"`
	Severity Severity `toml:"severity" json:"severity"`
	What     string   `toml:"what" json:"what"`
}

// Evidence is what was found of a library. Any field may be empty.
type Evidence struct {
	// File is the base name of a mapped or installed file.
	File string
	// Package is an installed package.
	Package Package
	// Python is the name of an installed Python distribution, in any spelling.
	Python string
	// Version is the upstream version of the library or distribution; empty where
	// only Package tells.
	Version string
	// HasSymbol reports whether the file defines a symbol; nil where not read.
	HasSymbol func(name string) bool
}

// Match is one library that the evidence fits.
type Match struct {
	Library *Library
	// By says what matched: "file libopenblas.so.0", "package libssl3".
	By string
	// Version is the upstream version, empty where unknown.
	Version string
	// Range is how this version behaves; nil where the version is unknown or in
	// no range of the data: then Worst is the worst that the library can do.
	Range *LibraryRange
	Worst LibraryRange
	// Says is a sentence where the version is unknown or newer than the data.
	Says string
}

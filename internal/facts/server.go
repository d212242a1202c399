package facts

// Server is a pre-fork server.
type Server struct {
	// ID is the lower-case name: gunicorn, uwsgi, celery, puma, unicorn,
	// pitchfork, php-fpm, postgresql, apache.
	ID      string   `toml:"id" json:"id"`
	Aliases []string `toml:"aliases" json:"aliases,omitempty"`
	Name    string   `toml:"name" json:"name"`
	// Language of its configuration: python, ruby, ini, or empty.
	Language string `toml:"language" json:"language,omitempty"`
	// File is the usual name of its configuration file.
	File string `toml:"file" json:"file,omitempty"`
	// Preload says when the application is loaded in the master.
	Preload string `toml:"preload" json:"preload"`
	// Notes say what else matters at its fork.
	Notes   []string `toml:"notes" json:"notes,omitempty"`
	Hooks   []Hook   `toml:"hook" json:"hooks,omitempty"`
	Basis   Basis    `toml:"basis" json:"basis"`
	Sources []Source `toml:"source" json:"sources"`
}

// Hook is a point at which a server calls the application's code, or a step
// between two of them. Hooks stand in the order in which they happen.
type Hook struct {
	Name string `toml:"name" json:"name"`
	// Process in which it runs: master or worker.
	Process string `toml:"process" json:"process"`
	// From and Until bound the server's versions that have it under this name.
	From  string `toml:"from" json:"from,omitempty"`
	Until string `toml:"until" json:"until,omitempty"`
	// Step marks what is no hook but a thing that the server does there.
	Step bool   `toml:"step" json:"step,omitempty"`
	Says string `toml:"says" json:"says"`
}

// Remedies say how to get rid of a defect or hazard.
type Remedies struct {
	// Say are for people, in the order in which they should be tried.
	Say []string `toml:"say" json:"say"`
	// Fixes are pieces of configuration that Remedy puts together.
	Fixes []Fix `toml:"fix" json:"fixes,omitempty"`
}

// Fix is one piece of configuration.
type Fix struct {
	// When is the point where the piece belongs: setting (a line of one server's
	// own configuration), environment (before the application is loaded in the
	// master), before-fork (in the master), after-fork (in the worker, before it
	// serves), or no-preload (the application must not be loaded in the master:
	// there is no code, and no other piece is needed).
	When string `toml:"when" json:"when"`
	// Server that a setting is for.
	Server string `toml:"server" json:"server,omitempty"`
	// Language of Code: python or ruby; empty for settings and no-preload.
	Language string `toml:"language" json:"language,omitempty"`
	// Says is the comment above the piece.
	Says string `toml:"says" json:"says"`
	Code string `toml:"code" json:"code,omitempty"`
	// Env are the variables of an environment piece.
	Env map[string]string `toml:"env" json:"env,omitempty"`
}

// Distribution is one release of a distribution.
type Distribution struct {
	// ID and Release are ID and VERSION_ID of os-release; Also are ids of
	// distributions that ship the same packages (centos, almalinux ...).
	ID      string `toml:"id" json:"id"`
	Release string `toml:"release" json:"release"`
	// Codename is VERSION_CODENAME, of a release whose os-release has no VERSION_ID.
	Codename string   `toml:"codename" json:"codename,omitempty"`
	Also     []string `toml:"also" json:"also,omitempty"`
	Name     string   `toml:"name" json:"name"`
	// Family and Version are the libc that it ships.
	Family    string    `toml:"family" json:"family"`
	Version   string    `toml:"version" json:"version"`
	Ecosystem Ecosystem `toml:"ecosystem" json:"ecosystem"`
	Package   string    `toml:"package" json:"package"`
	// Seen is the newest package version that was looked at, empty where none was.
	Seen    string   `toml:"seen" json:"seen,omitempty"`
	Note    string   `toml:"note" json:"note,omitempty"`
	Basis   Basis    `toml:"basis" json:"basis"`
	Sources []Source `toml:"source" json:"sources"`
}

// POSIX is the standard's list of functions that a child of a process with
// threads may call.
type POSIX struct {
	// Functions by the issue of the standard that first lists them.
	Issues  []Issue  `toml:"issue" json:"issues"`
	Sources []Source `toml:"source" json:"sources"`
}

// Issue is one issue of the standard.
type Issue struct {
	Name      string   `toml:"name" json:"name"`
	Functions []string `toml:"functions" json:"functions"`
	// Removed are those that a later issue took off the list.
	Removed []Removal `toml:"removed" json:"removed,omitempty"`
}

// Removal is a function that an issue of the standard took off the list.
type Removal struct {
	Function string `toml:"function" json:"function"`
	By       string `toml:"by" json:"by"`
}

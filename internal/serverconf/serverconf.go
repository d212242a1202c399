// Package serverconf reads how pre-fork servers are started and set up: gunicorn's
// configuration file, command lines where they stand (systemd units, Procfile,
// Dockerfile, compose files, Kubernetes manifests, shell scripts), and the files of
// uWSGI, Puma and php-fpm. Nothing is run: what a file computes is not known.
package serverconf

import "fmt"

// Tri is yes, no, or not known.
type Tri int

// The three.
const (
	Unknown Tri = iota
	Yes
	No
)

func (t Tri) String() string { return [...]string{"not known", "yes", "no"}[t] }

// Place is a line of a file; Line is 1 or more.
type Place struct {
	File string
	Line int
}

func (p Place) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Setting is a setting with the place that makes it so.
type Setting struct {
	Place
	Value string
}

// Server is one server as a command line or a configuration file describes it.
type Server struct {
	// Kind is gunicorn, uwsgi, celery, puma or php-fpm.
	Kind string
	// Place is the command or file.
	Place
	// App is the application: "pkg.mod:app", "pkg.mod:create_app()" or, of Celery,
	// a module; empty where it is not said. A path that ends in ".py" is a file.
	App string
	// Config is the file that the command names, "" where it names none.
	Config string
	// Dir is the folder that it changes into, relative to where it was started.
	Dir string
	// Paths are folders added to Python's path.
	Paths []string
	// Preload says whether the application is loaded before the fork, as far as
	// this command or file says; PreloadAt is what says so.
	Preload   Tri
	PreloadAt Place
	// Forks is false where the server has no worker processes: Celery with
	// --pool=threads, Puma without workers.
	Forks bool
	// Env is the environment that it is started in, as far as it is said there.
	Env map[string]string
	// Settings are the others, by their long names without dashes.
	Settings map[string]Setting
	// Hazards are settings that are hazards by themselves.
	Hazards []Hazard
}

// Hazard is a setting that makes forking more dangerous.
type Hazard struct {
	Place
	// Title is one line; Why says what follows, Do what to do.
	Title, Why string
	Do         []string
	// Fact is the id of the published defect behind it, or empty.
	Fact   string
	Source string
	// Grave: a warning; else information.
	Grave bool
	// WithThreads: it matters only where a thread runs in the master.
	WithThreads bool
}

func (s *Server) set(name, value string, at Place) {
	if s.Settings == nil {
		s.Settings = make(map[string]Setting)
	}
	s.Settings[name] = Setting{at, value}
}

// Has reports whether a setting is there and is not false.
func (s *Server) Has(name string) bool {
	v, ok := s.Settings[name]
	return ok && truth(v.Value) != No
}

// truth reads a value as a switch.
func truth(v string) Tri {
	switch v {
	case "", "True", "true", "yes", "on", "1":
		return Yes
	case "False", "false", "no", "off", "0", "None":
		return No
	}
	return Unknown
}

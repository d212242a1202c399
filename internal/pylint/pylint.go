// Package pylint says what Python servers do before they fork. It follows a
// program from its entry, through the project's own modules, functions and
// classes, as the interpreter would run them in the master, and keeps account of
// what is alive at the fork: threads, connections, locks, loops, agents and
// libraries that compute. Nothing is executed; what it cannot follow it does not
// speak of. What libraries do is data, in apis.toml.
package pylint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"forkproof/internal/finding"
	"forkproof/internal/pysrc"
	"forkproof/internal/serverconf"
)

// Spec is a server to judge.
type Spec struct {
	// Kind is gunicorn, uwsgi or celery.
	Kind string
	// App is "module:name", "module:call()", a module or a path that ends in .py;
	// empty where only the configuration is known.
	App string
	// Config is the path of a gunicorn.conf.py, or empty.
	Config string
	// Paths are the folders of Python's path, the first first.
	Paths []string
	// Preload says whether the application is loaded before the fork. Unknown is
	// judged as if it were, with findings that are information.
	Preload serverconf.Tri
	// At is what says so: the line to which a missing hook belongs.
	At serverconf.Place
	// Env is the environment that the server is started in, as far as it is known.
	Env map[string]string
	// Hazards are those of its settings.
	Hazards []serverconf.Hazard
}

// Analyzer reads sources, each once, for any number of servers. It is not safe
// for use by several goroutines at once.
type Analyzer struct {
	sources map[string]*source
	// folder is a cache of which names a folder has.
	folders map[string]map[string]bool
	// generators says which functions are such, of those that were called.
	generators map[*pysrc.FunctionDef]bool
}

// New returns an Analyzer.
func New() *Analyzer {
	return &Analyzer{sources: make(map[string]*source), folders: make(map[string]map[string]bool), generators: make(map[*pysrc.FunctionDef]bool)}
}

// source is a file of Python.
type source struct {
	path  string
	text  string
	file  *pysrc.File
	lines []int // where each line begins
}

// place is a part of a source.
type place struct {
	src  *source
	span pysrc.Span
}

func (p place) String() string {
	if p.src == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.src.path, p.span.Start.Line)
}

// finding makes a place of it that a reader can go to.
func (p place) finding() *finding.Place {
	return &finding.Place{File: filepath.ToSlash(p.src.path), Line: int(p.span.Start.Line), Column: p.src.column(p.span.Start), EndLine: int(p.span.End.Line), EndColumn: p.src.column(p.span.End)}
}

// column counts characters from 1 of a column that counts bytes from 0.
func (s *source) column(at pysrc.Pos) int {
	if at.Line < 1 || int(at.Line) > len(s.lines) {
		return int(at.Col) + 1
	}
	from := s.lines[at.Line-1]
	to := min(from+int(at.Col), len(s.text))
	return utf8.RuneCountInString(s.text[from:to]) + 1
}

// Read parses a file and returns it, from what was read before where it was.
func (a *Analyzer) read(path string) (*source, error) {
	if s, ok := a.sources[path]; ok {
		if s == nil {
			return nil, fs.ErrNotExist
		}
		return s, nil
	}
	a.sources[path] = nil
	// A pipe under a module's name must not keep us waiting for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is no regular file (%w)", path, errors.Join(err, fs.ErrInvalid))
	}
	b, err := io.ReadAll(io.LimitReader(f, pysrc.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > pysrc.MaxSize {
		return nil, fmt.Errorf("read %s: it is larger than %d bytes", path, pysrc.MaxSize)
	}
	s := &source{path: path}
	s.file, s.text = pysrc.Read(b)
	s.lines = append(s.lines, 0)
	for i := 0; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '\r' && i+1 < len(s.text) && s.text[i+1] == '\n':
		case c == '\n' || c == '\r':
			s.lines = append(s.lines, i+1)
		}
	}
	a.sources[path] = s
	return s, nil
}

// Comments returns the comments of a file, for suppressions.
func (a *Analyzer) Comments(path string) ([]pysrc.Comment, error) {
	s, err := a.read(path)
	if err != nil {
		return nil, err
	}
	return s.file.Comments, nil
}

// maxErrors bounds what is said of one file that is no Python.
const maxErrors = 3

// Syntax says what of a file could not be read, each with its place. ok is false
// where the file itself could not be.
func (a *Analyzer) Syntax(path string) ([]finding.Finding, error) {
	s, err := a.read(path)
	if err != nil {
		return nil, err
	}
	var out []finding.Finding
	for i, e := range s.file.Errors {
		if i == maxErrors {
			break
		}
		end := e.Pos
		end.Col++
		out = append(out, finding.Finding{
			Rule: finding.UnreadableSource, Severity: finding.Warning, Confidence: finding.Inferred, Place: place{s, pysrc.Span{Start: e.Pos, End: end}}.finding(),
			Title: e.Message, Why: "The statement was left out, with what is indented below it: nothing is known of what it does.",
			Remedy: []string{"Mend it, or leave the file out of what is looked at."},
		})
	}
	return out, nil
}

// Config reads a gunicorn.conf.py.
func (a *Analyzer) Config(path string) (*serverconf.Python, error) {
	s, err := a.read(path)
	if err != nil {
		return nil, err
	}
	return serverconf.NewPython(s.file, path), nil
}

// Lines is how many lines of Python were read.
func (a *Analyzer) Lines() int {
	n := 0
	for _, s := range a.sources {
		if s != nil {
			n += s.file.Lines
		}
	}
	return n
}

// has reports whether a folder has an entry of this name: most modules that are
// looked for are not there, and a folder is read once.
func (a *Analyzer) has(dir, name string) bool {
	names, ok := a.folders[dir]
	if !ok {
		names = make(map[string]bool)
		if entries, err := os.ReadDir(dir); err == nil {
			for _, e := range entries {
				names[e.Name()] = true
			}
		}
		a.folders[dir] = names
	}
	return names[name]
}

// find looks a module up in the folders of Python's path: its file, or, for a
// package without one, its folder.
func (a *Analyzer) find(name string, paths []string) (file, dir string, ok bool) {
	parts := strings.Split(name, ".")
	last := parts[len(parts)-1]
	namespace := ""
	for _, root := range paths {
		at := root
		missing := false
		for _, p := range parts[:len(parts)-1] {
			if p == "" || !a.has(at, p) {
				missing = true
				break
			}
			at = filepath.Join(at, p)
		}
		if missing || last == "" {
			continue
		}
		if a.has(at, last) {
			if d := filepath.Join(at, last); a.has(d, "__init__.py") {
				return filepath.Join(d, "__init__.py"), d, true
			} else if st, err := os.Stat(d); err == nil && st.IsDir() && namespace == "" {
				namespace = d
			}
		}
		if a.has(at, last+".py") {
			return filepath.Join(at, last+".py"), "", true
		}
	}
	return "", namespace, namespace != ""
}

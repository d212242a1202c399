package pylint

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"forkproof/internal/finding"
	"forkproof/internal/pysrc"
)

// Bounds: what is beyond them is not followed, and nothing is said of it.
const (
	maxSteps   = 2_000_000 // statements of one run
	maxDepth   = 60        // calls and imports within one another
	maxNesting = 400       // expressions within one another
	maxRuns    = 40        // of one function
	maxObjects = 20_000
	maxElts    = 24 // elements of a list that a loop goes over
)

// interp follows one process: the master, and after the fork a worker.
type interp struct {
	a       *Analyzer
	ctx     context.Context
	known   *knowledge
	paths   []string
	modules map[string]*module
	heap    []*object
	// loaded are the packages that are not ours, with where each was first imported.
	loaded map[string]place
	// set are environment variables that were set before what reads them was
	// loaded, with their values; "?" for one that is computed.
	set map[string]string
	// steps, depth and nest are bounded.
	steps, depth, nest int
	// frames is how the program came to where it is, outermost first.
	frames []string
	// worker: the fork has happened.
	worker bool
	hooks  []hook
	mended map[*API]bool
	// settings is the name of Django's module of settings.
	settings string
	later    []string // modules that Celery imports at its start
	spawn    bool     // multiprocessing does not fork
	found    []finding.Finding
	weak     int // what is assigned stands only where nothing is known yet
	hooking  string
	// blind: the application is not known. preloaded: it was loaded in the master.
	blind, preloaded bool
	// pool is Celery's pool where the program sets it; serves: the program is a
	// gunicorn itself.
	pool   string
	serves bool
}

// hook is a function that a library runs at or around the fork.
type hook struct {
	when string // before, master, worker
	fn   value
	name string
}

func (a *Analyzer) interp(ctx context.Context, paths []string) *interp {
	return &interp{a: a, ctx: ctx, known: known(), paths: paths, modules: make(map[string]*module), loaded: make(map[string]place), set: make(map[string]string), mended: make(map[*API]bool)}
}

// spent reports whether to stop: the bounds are reached, or nobody waits any more.
func (in *interp) spent() bool {
	in.steps++
	return in.steps > maxSteps || in.steps%1024 == 0 && in.ctx.Err() != nil
}

// load imports a module of the project: its packages first. It returns nil for
// one that is not ours.
func (in *interp) load(name string, at place) *module {
	if name == "" || len(name) > 500 {
		return nil
	}
	if m, ok := in.modules[name]; ok {
		return m
	}
	var parent *module
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		if parent = in.load(name[:i], at); parent == nil {
			in.modules[name] = nil
			return nil
		}
	}
	file, dir, ok := in.a.find(name, in.paths)
	if !ok || in.depth > maxDepth {
		in.modules[name] = nil
		return nil
	}
	m := &module{name: name, dir: dir}
	in.modules[name] = m
	m.env = newEnv(nil, m)
	m.env.vars["__name__"] = name
	if parent != nil {
		parent.env.vars[name[strings.LastIndexByte(name, '.')+1:]] = m
	}
	if file != "" {
		in.run(m, file, at, "imports "+name)
	}
	return m
}

// run executes a module's body.
func (in *interp) run(m *module, file string, at place, what string) {
	src, err := in.a.read(file)
	if err != nil {
		return
	}
	m.src = src
	m.env.vars["__file__"] = extern("__file__")
	in.depth++
	in.enter(at, what)
	first := len(in.heap)
	weak := in.weak
	in.weak = 0
	m.env.body = src.file.Body
	in.body(src.file.Body, m.env)
	in.weak = weak
	in.leave()
	in.depth--
	in.collect(first, nil)
}

func (in *interp) enter(at place, what string) {
	s := what
	if at.src != nil {
		s = fmt.Sprintf("%s: %s", at, what)
	}
	in.frames = append(in.frames, s)
}

func (in *interp) leave() { in.frames = in.frames[:len(in.frames)-1] }

// collect ends what lived in a scope that is left, and that nothing else keeps.
func (in *interp) collect(first int, kept value) {
	var keep map[*object]bool
	objects(kept, func(o *object) {
		if keep == nil {
			keep = make(map[*object]bool)
		}
		keep[o] = true
		for _, v := range o.via {
			keep[v] = true
		}
	})
	for _, o := range in.heap[min(first, len(in.heap)):] {
		if o.api != nil && o.api.Local && !o.escaped && !keep[o] && o.master != in.worker {
			o.ended = true
		}
	}
}

// external notes the import of a package that is not ours.
func (in *interp) external(name string, at place) value {
	root, _, _ := strings.Cut(name, ".")
	if _, ok := in.loaded[root]; !ok {
		in.loaded[root] = at
		if a := in.known.exact["import "+root]; a != nil && !in.worker && at.src != nil && in.set["OMP_NUM_THREADS"] == "" && in.set["OPENBLAS_NUM_THREADS"] == "" {
			o := &object{name: "import " + root, api: a, made: at, lived: at, live: true, method: "made"}
			in.made(o)
		}
	}
	return extern(name)
}

// importName is "import a.b" or "import a.b as c".
func (in *interp) importName(name string, at place) (first, last value) {
	root, _, _ := strings.Cut(name, ".")
	if m := in.load(name, at); m != nil {
		return in.modules[root], m
	}
	if m := in.modules[root]; m != nil {
		return m, nil // a part of ours that is not there
	}
	in.external(name, at)
	return extern(root), extern(name)
}

// importFrom is "from module import name".
func (in *interp) importFrom(s *pysrc.ImportFrom, e *env, at place) {
	name := s.Module
	if s.Level > 0 {
		base := e.mod.name
		up := s.Level
		if e.mod.dir != "" {
			up--
		}
		for ; up > 0 && base != ""; up-- {
			base = base[:max(0, strings.LastIndexByte(base, '.'))]
		}
		name = strings.Trim(base+"."+s.Module, ".")
	}
	m := in.load(name, at)
	for _, a := range s.Names {
		if a.Name == "*" {
			if m != nil {
				for k, v := range m.env.vars {
					if !strings.HasPrefix(k, "_") {
						in.bind(k, v, e)
					}
				}
			} else {
				in.external(name, at)
			}
			continue
		}
		as := a.As
		if as == "" {
			as = a.Name
		}
		in.bind(as, in.member(m, name, a.Name, at), e)
	}
}

func (in *interp) member(m *module, name, attr string, at place) value {
	if m != nil {
		if v, ok := m.env.vars[attr]; ok {
			return v
		}
		if sub := in.load(m.name+"."+attr, at); sub != nil {
			return sub
		}
		return nil
	}
	if in.a.ours(name, in.paths) {
		return nil
	}
	in.external(name, at)
	return extern(name + "." + attr)
}

// ours reports whether a module would be the project's own if it were there.
func (a *Analyzer) ours(name string, paths []string) bool {
	root, _, _ := strings.Cut(name, ".")
	_, _, ok := a.find(root, paths)
	return ok || root == ""
}

// assigned: a name of a module or class keeps what it is given.
func (in *interp) bind(name string, v value, e *env) {
	s := e.scope(name)
	old, had := s.vars[name]
	if in.weak > 0 && had && old != nil && old != (none{}) {
		return
	}
	if !s.function || s.keeps {
		escape(v)
		in.replaced(old, v)
	}
	s.vars[name] = v
}

// replaced notes, in a worker, that what the master left was made anew or dropped.
func (in *interp) replaced(old, v value) {
	if !in.worker || old == v {
		return
	}
	objects(old, func(o *object) {
		if o.master && o.api != nil && o.api.What != "thread" {
			o.renewed = true
		}
	})
}

// trail is how the program came to where it is, for evidence.
func (in *interp) trail() []string {
	return append([]string(nil), in.frames...)
}

// made is called for each object that something is known of.
func (in *interp) made(o *object) {
	if len(in.heap) >= maxObjects {
		return
	}
	o.path = in.trail()
	o.master = !in.worker
	in.heap = append(in.heap, o)
}

// use makes an object live by one of its methods.
func (in *interp) use(o *object, how string, at place) {
	if o.api == nil {
		return
	}
	if o.api.Through {
		for _, v := range o.via {
			in.use(v, "", at)
		}
		return
	}
	if in.worker && o.master {
		if o.live && !o.finished() && !o.usedAfterFork {
			o.usedAfterFork = true
			in.inherited(o, how, at)
		}
		return
	}
	if how == "" || o.api.lives(how) {
		if !o.live {
			o.lived, o.method, o.path = at, how, in.trail()
		}
		o.live = true
		o.ended = false
		if o.api.Forks && !o.spawns {
			in.forks(at, o.api.Noun, false)
		}
	}
}

// end takes an object for gone.
func (in *interp) end(o *object, how string) {
	switch {
	case o.api == nil:
	case in.worker && o.master:
		if is(o.api.Renews, how) {
			o.renewed = true
		}
	case !in.worker:
		o.ended = true
	}
}

// scriptPaths are the folders that Python searches for a script.
func scriptPaths(file string, paths []string) []string {
	return append([]string{filepath.Dir(file)}, paths...)
}

package pylint

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"

	"forkproof/internal/finding"
	"forkproof/internal/pysrc"
	"forkproof/internal/serverconf"
)

// Server judges a server: what its master does up to the fork, and what the hooks
// of its workers do with it. notes say what could not be followed.
func (a *Analyzer) Server(ctx context.Context, s Spec) (found []finding.Finding, notes []string) {
	in := a.interp(ctx, s.Paths)
	in.blind = true
	for k, v := range s.Env {
		in.set[k] = v
	}
	conf := in.configuration(s)
	preload := s.Preload != serverconf.No
	if preload {
		in.application(s, &notes)
	}
	in.masterHooks(s, conf)
	in.worker, in.preloaded = true, preload
	in.workerHooks(s, conf, preload)
	if !preload {
		in.application(s, &notes)
	}
	if in.steps > maxSteps {
		notes = append(notes, "the application is too large to be followed whole: what comes after its first two million statements was left out")
	}
	in.judge(s, conf)
	return in.found, notes
}

// configuration runs gunicorn's configuration file, which the master always does.
func (in *interp) configuration(s Spec) *module {
	if s.Config == "" {
		return nil
	}
	m := &module{name: "__config__"}
	m.env = newEnv(nil, m)
	m.env.vars["__name__"] = "__config__"
	in.run(m, s.Config, place{}, "gunicorn reads "+filepath.ToSlash(s.Config))
	if m.src == nil {
		return nil
	}
	return m
}

// application loads what a server was told to serve. An application object is not
// called: requests alone do that.
func (in *interp) application(s Spec, notes *[]string) {
	if s.App == "" {
		return
	}
	name, attr, _ := strings.Cut(s.App, ":")
	var m *module
	if strings.HasSuffix(name, ".py") {
		m = &module{name: strings.TrimSuffix(filepath.Base(name), ".py")}
		file := name
		if !filepath.IsAbs(file) && len(s.Paths) > 0 {
			for _, dir := range s.Paths {
				if f := filepath.Join(dir, name); in.a.has(filepath.Dir(f), filepath.Base(f)) {
					file = f
					break
				}
			}
		}
		m.env = newEnv(nil, m)
		m.env.vars["__name__"] = m.name
		in.modules[m.name] = m
		in.run(m, file, place{}, s.Kind+" loads "+s.App)
		if m.src == nil {
			*notes = append(*notes, "the application "+s.App+" was not found: no file "+name)
			return
		}
	} else {
		in.frames = append(in.frames, s.Kind+" loads "+s.App)
		m = in.load(name, place{})
		if i := strings.LastIndexByte(name, '.'); m == nil && i > 0 && s.Kind == "celery" {
			m = in.load(name[:i], place{}) // module.attribute
		}
		in.frames = in.frames[:0]
		if m == nil {
			*notes = append(*notes, "the application "+s.App+" was not found: no module "+name+" in "+strings.Join(s.Paths, ", "))
			return
		}
		if m.src == nil {
			return
		}
	}
	in.blind = false
	if s.Kind == "celery" {
		in.celeryModules(m)
		return
	}
	// A factory is called by an expression: app:create_app("production").
	if i := strings.IndexByte(attr, '('); i > 0 {
		f := pysrc.Parse(attr + "\n")
		if len(f.Body) == 1 && len(f.Errors) == 0 {
			if x, ok := f.Body[0].(*pysrc.ExprStmt); ok {
				in.frames = append(in.frames, s.Kind+" calls "+attr+" of "+name)
				// The expression stands in no file.
				e := newEnv(m.env, &module{name: m.name, env: m.env})
				e.function = true
				in.eval(x.X, e)
				in.frames = in.frames[:0]
			}
		}
	}
}

// celeryModules loads what Celery imports before it starts its pool: the
// application may be in pkg.celery, and tasks where it was told.
func (in *interp) celeryModules(m *module) {
	if m.dir != "" {
		if _, ok := m.env.vars["app"]; !ok {
			in.load(m.name+".celery", place{m.src, pysrc.Span{}})
		}
	}
	for i := 0; i < len(in.later) && i < 200; i++ {
		in.frames = append(in.frames, "Celery imports "+in.later[i])
		if in.later[i] == " tasks of Django" {
			if settings := in.load(in.settings, place{}); settings != nil {
				for _, x := range elements(settings.env.vars["INSTALLED_APPS"]) {
					if s, ok := x.(string); ok {
						in.load(s+".tasks", place{})
					}
				}
			}
		} else {
			in.load(in.later[i], place{})
		}
		in.frames = in.frames[:0]
	}
}

// masterHooks runs what runs in the master between loading and the fork.
func (in *interp) masterHooks(s Spec, conf *module) {
	if conf != nil && s.Kind == "gunicorn" {
		for _, name := range []string{"on_starting", "when_ready", "pre_fork"} {
			in.hook(conf.env.vars[name], name, 2, conf)
		}
	}
	for _, h := range in.hooks {
		if h.when == "master" {
			in.hook(h.fn, h.name, 1, nil)
		}
	}
	for i := len(in.hooks) - 1; i >= 0; i-- {
		if h := in.hooks[i]; h.when == "before" {
			in.hook(h.fn, h.name, 0, nil)
		}
	}
}

// workerHooks runs what a worker does between the fork and its first request.
func (in *interp) workerHooks(s Spec, conf *module, preload bool) {
	for _, h := range in.hooks {
		if h.when == "worker" {
			in.hook(h.fn, h.name, 1, nil)
		}
	}
	if conf != nil && s.Kind == "gunicorn" {
		in.hook(conf.env.vars["post_fork"], "post_fork", 2, conf)
		if preload {
			in.hook(conf.env.vars["post_worker_init"], "post_worker_init", 1, conf)
		}
	}
}

func (in *interp) hook(fn value, name string, args int, conf *module) {
	at := place{}
	switch f := fn.(type) {
	case nil:
		return
	case *function:
		if f.def == nil && f.lambda == nil {
			return
		}
		at = place{f.env.mod.src, f.node().At()}
	case *method, *partial:
		if conf != nil {
			at = place{conf.src, pysrc.Span{}}
		}
	default:
		return
	}
	in.hooking = name
	in.frames = append(in.frames[:0], "the server runs the hook "+name)
	// A hook may have run before, from the program itself: that is no reason not to.
	if f, ok := fn.(*function); ok {
		f.code.runs = 0
	}
	in.call(fn, make([]arg, args), at, nil)
	in.frames = in.frames[:0]
	in.hooking = ""
}

func (f *function) node() pysrc.Node {
	if f.def != nil {
		return f.def
	}
	return f.lambda
}

// scripting are words without one of which no program forks.
var scripting = []string{"fork", "multiprocessing", "ProcessPoolExecutor", "gunicorn.app"}

// Script judges a program that is run by itself: whether it forks while it has
// threads, or is a gunicorn of its own (serves), of which the program is the master.
func (a *Analyzer) Script(ctx context.Context, path string, paths []string) (found []finding.Finding, serves bool) {
	src, err := a.read(path)
	if err != nil || !slices.ContainsFunc(scripting, func(w string) bool { return strings.Contains(src.text, w) }) {
		return nil, false
	}
	in := a.interp(ctx, scriptPaths(path, paths))
	m := &module{name: "__main__"}
	m.env = newEnv(nil, m)
	m.env.vars["__name__"] = "__main__"
	in.run(m, path, place{}, "python runs "+filepath.ToSlash(path))
	if in.serves {
		in.judge(Spec{Kind: "gunicorn", Preload: serverconf.Yes}, nil)
		return in.found, true
	}
	out := in.found[:0:0]
	for _, f := range in.found {
		if f.Rule == finding.ForkWithThreads {
			out = append(out, f)
		}
	}
	return append(out, a.forks(src, out)...), false
}

// forks finds calls of os.fork that no exec follows, wherever they stand: what a
// program does later was not followed. known are those that are told already.
func (a *Analyzer) forks(src *source, known []finding.Finding) []finding.Finding {
	var out []finding.Finding
	names := map[string]bool{"os.fork": true, "os.forkpty": true, "pty.fork": true}
	for _, s := range src.file.Body {
		if f, ok := s.(*pysrc.ImportFrom); ok && (f.Module == "os" || f.Module == "pty") {
			for _, n := range f.Names {
				if n.Name == "fork" || n.Name == "forkpty" {
					names[cmp.Or(n.As, n.Name)] = true
				}
			}
		}
	}
	var visit func(body []pysrc.Stmt)
	visit = func(body []pysrc.Stmt) {
		harmless := callsAny(body, func(name string) bool {
			last := name[strings.LastIndexByte(name, '.')+1:]
			return strings.HasPrefix(last, "exec") && last != "exec" && last != "execute" && last != "executemany" || strings.HasPrefix(last, "posix_spawn") || last == "setsid" || last == "DaemonContext"
		})
		for _, s := range body {
			pysrc.Walk(s, func(n pysrc.Node) bool {
				switch n := n.(type) {
				case *pysrc.FunctionDef:
					visit(n.Body)
					return false
				case *pysrc.Call:
					if !names[dotted(n.Func)] || harmless {
						return true
					}
					at := place{src, n.At()}
					if slices.ContainsFunc(known, func(f finding.Finding) bool { return f.Place != nil && f.Place.Line == int(n.Start.Line) }) {
						return true
					}
					out = append(out, finding.Finding{Rule: finding.ForkWithoutExec, Severity: finding.Info, Confidence: finding.Inferred, Place: at.finding(),
						Title: "a process is forked, and no exec follows", Why: "The child goes on with a copy of everything: if another thread runs at that moment, what it holds stays locked in the child.",
						Remedy:  []string{"Fork before the first thread starts, or start a program with subprocess, which forks and executes at once."},
						Sources: []string{"https://docs.python.org/3/library/os.html#os.fork"}})
				}
				return true
			})
		}
	}
	visit(src.file.Body)
	return out
}

// dotted is a name with its attributes as text, empty for any other expression.
func dotted(e pysrc.Expr) string { return serverconf.Dotted(e) }

// Entry is an application that a file makes.
type Entry struct {
	// Kind is gunicorn for a web application, or celery.
	Kind string
	// Name is what is served: a variable, or "create_app()".
	Name string
	Line int
	// Weak: it has the name of an application, and no more is known.
	Weak bool
}

// makers are the calls that make an application, by their last name.
var makers = map[string]string{"Flask": "gunicorn", "FastAPI": "gunicorn", "Starlette": "gunicorn", "get_wsgi_application": "gunicorn", "get_asgi_application": "gunicorn", "Quart": "gunicorn",
	"Sanic": "gunicorn", "Bottle": "gunicorn", "Litestar": "gunicorn", "make_wsgi_app": "gunicorn", "create_app": "gunicorn", "make_app": "gunicorn", "Dash": "gunicorn", "Connexion": "gunicorn", "FlaskApp": "gunicorn", "Celery": "celery"}

// Entries are the applications that a file makes at its top, or by a function
// create_app.
func (a *Analyzer) Entries(path string) []Entry {
	src, err := a.read(path)
	if err != nil {
		return nil
	}
	var out []Entry
	factory := Entry{}
	for _, s := range src.file.Body {
		switch s := s.(type) {
		case *pysrc.Assign:
			n, ok := s.Targets[0].(*pysrc.Name)
			c, isCall := s.Value.(*pysrc.Call)
			if !ok || !isCall {
				continue
			}
			name := dotted(c.Func)
			if kind := makers[name[strings.LastIndexByte(name, '.')+1:]]; kind != "" {
				out = append(out, Entry{Kind: kind, Name: n.ID, Line: int(s.Start.Line)})
			} else if n.ID == "app" || n.ID == "application" {
				out = append(out, Entry{"gunicorn", n.ID, int(s.Start.Line), true})
			}
		case *pysrc.FunctionDef:
			if (s.Name == "create_app" || s.Name == "make_app") && factory.Kind == "" && !s.Async {
				factory = Entry{Kind: "gunicorn", Name: s.Name + "()", Line: int(s.Start.Line)}
			}
			if (s.Name == "app" || s.Name == "application") && len(s.Params) == 2 {
				out = append(out, Entry{"gunicorn", s.Name, int(s.Start.Line), true})
			}
		}
	}
	if factory.Kind != "" && !slices.ContainsFunc(out, func(e Entry) bool { return e.Kind == "gunicorn" && !e.Weak }) {
		out = append(out, factory)
	}
	return out
}

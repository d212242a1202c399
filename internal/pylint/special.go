package pylint

import (
	"slices"
	"strings"

	"forkproof/internal/pysrc"
)

func sortedKeys(m map[string]value) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// celeryHooks are Celery's signals by where their handlers run (celery/signals.py,
// concurrency/prefork.py).
var celeryHooks = map[string]string{"worker_process_init": "worker", "worker_init": "master", "celeryd_init": "master", "celeryd_after_setup": "master"}

// special follows the calls of libraries that do more than make a thing: done is
// false for all others. o is the object of a method, or nil.
func (in *interp) special(name string, o *object, args []arg, at place, e *env) (v value, done bool) {
	switch root(name) {
	case "builtins":
		return in.builtin(strings.TrimPrefix(name, "builtins."), args, at, e)
	case "os":
		return in.system(name, args, at, e)
	case "celery":
		return in.celery(name, args, at)
	case "django":
		return in.django(name, args, at)
	case "multiprocessing":
		return in.processes(name, args, at)
	}
	switch name {
	case "gunicorn.app.base.BaseApplication().run", "gunicorn.app.base.Application().run", "gunicorn.app.wsgiapp.WSGIApplication().run":
		in.serves = true
		return nil, true
	case "pty.fork":
		in.fork(at, e)
		return nil, true
	case "importlib.import_module", "werkzeug.utils.import_string", "django.utils.module_loading.import_string":
		if s, ok := first(args, "name").(string); ok {
			if m := in.load(s, at); m != nil {
				return m, true
			}
			if i := strings.LastIndexByte(s, '.'); i > 0 && !strings.HasPrefix(name, "importlib") {
				return in.member(in.load(s[:i], at), s[:i], s[i+1:], at), true
			}
			if in.a.ours(s, in.paths) {
				return nil, true
			}
			return in.external(s, at), true
		}
		return nil, true
	case "asyncio.run", "asgiref.sync.async_to_sync", "anyio.run", "trio.run":
		if d, ok := first(args, "main").(*deferred); ok {
			return in.force(d), true
		}
		if f, ok := first(args, "main").(*function); ok && name != "asgiref.sync.async_to_sync" {
			return in.runFunction(f, nil, at), true
		}
	case "functools.partial":
		if len(args) > 0 {
			return &partial{args[0].v, args[1:]}, true
		}
	case "functools.wraps", "functools.lru_cache", "functools.cache", "functools.update_wrapper":
		if f, ok := first(args, "func").(*function); ok && name != "functools.wraps" {
			return f, true
		}
		return nil, true
	case "contextlib.closing":
		return &closing{first(args, "thing")}, true
	case "contextlib.suppress":
		return nil, true
	case "uwsgidecorators.postfork":
		in.hooks = append(in.hooks, hook{"worker", first(args, "func"), "@postfork"})
		return first(args, "func"), true
	case "typing.cast":
		if len(args) == 2 {
			return args[1].v, true
		}
	}
	if o != nil && o.api != nil && o.api.What == "loop" && strings.HasSuffix(name, ".run_until_complete") {
		if d, ok := first(args, "future").(*deferred); ok {
			return in.force(d), true
		}
	}
	return nil, false
}

func (in *interp) builtin(name string, args []arg, at place, e *env) (value, bool) {
	switch name {
	case "super":
		for s := e; s != nil; s = s.parent {
			if s.self != nil && s.owner != nil {
				return &super{s.self, s.owner}, true
			}
		}
	case "getattr":
		if len(args) >= 2 {
			if s, ok := args[1].v.(string); ok {
				return in.attr(args[0].v, s, at), true
			}
		}
	case "setattr":
		if len(args) >= 3 {
			escape(args[2].v)
			if s, ok := args[1].v.(string); ok {
				if o, ok := args[0].v.(*object); ok && o.attrs != nil {
					o.attrs[s] = args[2].v
				}
			}
		}
	case "list", "tuple", "set", "iter", "next", "sorted", "reversed", "enumerate", "any", "all", "sum":
		if len(args) == 0 {
			return &list{}, true
		}
		switch v := args[0].v.(type) {
		case *deferred:
			r := in.force(v)
			if name == "next" {
				return r, true
			}
			return &list{[]value{r}}, true
		case *list:
			switch name {
			case "next":
				return in.iterate(v), true
			case "enumerate":
				out := &list{}
				for i, x := range v.elts {
					out.elts = append(out.elts, &list{[]value{int64(i), x}})
				}
				return out, true
			}
			return v, true
		}
		in.query(args[0].v, at)
	case "map", "filter":
		if len(args) >= 2 {
			out := &list{}
			for _, x := range elements(args[1].v) {
				v := in.call(args[0].v, []arg{{v: x}}, at, e)
				if name == "filter" {
					v = x
				}
				out.elts = append(out.elts, v)
			}
			return out, true
		}
	case "zip":
		return nil, true
	case "dict":
		d := &dict{make(map[string]value)}
		for _, a := range args {
			if a.name != "" {
				d.m[a.name] = a.v
			} else if from, ok := a.v.(*dict); ok {
				for k, v := range from.m {
					d.m[k] = v
				}
			}
		}
		return d, true
	case "__import__":
		if s, ok := first(args, "name").(string); ok {
			f, _ := in.importName(s, at)
			return f, true
		}
	}
	return nil, true
}

func elements(v value) []value {
	if l, ok := v.(*list); ok {
		return l.elts[:min(len(l.elts), maxElts)]
	}
	return []value{nil}
}

// query is a list of what a database is asked for: Django asks only now.
func (in *interp) query(v value, at place) {
	if o, ok := v.(*object); ok && strings.HasPrefix(o.name, "django.db.models.Model.objects.") {
		in.foreignCall("django.db.models.Model.objects.first", "", nil, nil, at)
	}
}

func (in *interp) system(name string, args []arg, at place, e *env) (value, bool) {
	switch name {
	case "os.fork", "os.forkpty":
		in.fork(at, e)
		return nil, true
	case "os.register_at_fork":
		for _, a := range args {
			switch a.name {
			case "before":
				in.hooks = append(in.hooks, hook{"before", a.v, "os.register_at_fork"})
			case "after_in_child":
				in.hooks = append(in.hooks, hook{"worker", a.v, "os.register_at_fork"})
			}
		}
		return nil, true
	case "os.environ.setdefault", "os.putenv":
		if s, ok := first(args, "key").(string); ok {
			if s == "DJANGO_SETTINGS_MODULE" && len(args) > 1 {
				if m, ok := args[1].v.(string); ok {
					in.settings = m
				}
			}
			var to value
			if len(args) > 1 {
				to = args[1].v
			}
			in.setenv(s, to, at)
		}
		return nil, true
	case "os.environ.update":
		for _, a := range args {
			if a.name != "" {
				in.setenv(a.name, a.v, at)
			} else if d, ok := a.v.(*dict); ok {
				for _, k := range sortedKeys(d.m) {
					in.setenv(k, d.m[k], at)
				}
			}
		}
		return nil, true
	case "os.environ.get", "os.getenv":
		if s, ok := first(args, "key").(string); ok && (s == "WERKZEUG_RUN_MAIN" || s == "RUN_MAIN") {
			return reloader, true
		}
		return nil, true
	case "os.path.join", "os.path.dirname", "os.path.abspath", "os.getcwd", "os.cpu_count", "os.getpid":
		return nil, true
	}
	return nil, false
}

// celery follows what Celery runs around its fork, and the modules that it
// imports at its start.
func (in *interp) celery(name string, args []arg, at place) (value, bool) {
	if s, ok := strings.CutPrefix(name, "celery.signals."); ok {
		signal, rest, _ := strings.Cut(s, ".")
		if rest == "connect" || rest == "connect()" {
			if f := first(args, "receiver"); f != nil {
				if when := celeryHooks[signal]; when != "" {
					in.hooks = append(in.hooks, hook{when, f, signal})
				}
				return f, true
			}
			if rest == "connect" {
				return extern("celery.signals." + signal + ".connect()"), true
			}
		}
		return nil, true
	}
	imports := func(v value, suffix string) {
		for _, x := range elements(v) {
			if s, ok := x.(string); ok {
				in.later = append(in.later, s+suffix)
			}
		}
	}
	switch {
	case name == "celery.Celery" || name == "celery.app.Celery":
		imports(named(args, "include"), "")
	case strings.HasSuffix(name, ".autodiscover_tasks"):
		if v := first(args, "packages"); v != nil {
			imports(v, ".tasks")
		} else {
			in.later = append(in.later, " tasks of Django")
		}
		return nil, true
	case strings.HasSuffix(name, ".config_from_object"):
		if s, ok := first(args, "obj").(string); ok {
			if m := in.load(strings.TrimPrefix(s, "django.conf:"), at); m != nil {
				if p, ok := m.env.vars["worker_pool"].(string); ok {
					in.pool = p
				}
				imports(m.env.vars["imports"], "")
				imports(m.env.vars["include"], "")
			}
		}
		return nil, true
	case strings.HasSuffix(name, ".conf.update"):
		if p, ok := named(args, "worker_pool").(string); ok {
			in.pool = p
		}
		imports(named(args, "imports"), "")
		imports(named(args, "include"), "")
		return nil, true
	}
	return nil, false
}

// django follows what get_wsgi_application() and setup() do: they load the
// settings, each application with its models, and run every AppConfig.ready().
// URLs and views are loaded by the first request.
func (in *interp) django(name string, args []arg, at place) (value, bool) {
	switch name {
	case "django.core.wsgi.get_wsgi_application", "django.core.asgi.get_asgi_application", "django.setup":
		settings := in.load(in.settings, at)
		if settings == nil {
			return nil, true
		}
		var ready []value
		for _, x := range elements(settings.env.vars["INSTALLED_APPS"]) {
			app, ok := x.(string)
			if !ok {
				continue
			}
			var config *class
			pkg := in.load(app, at)
			if pkg == nil {
				i := strings.LastIndexByte(app, '.')
				if i < 0 {
					continue
				}
				config, _ = in.member(in.load(app[:i], at), app[:i], app[i+1:], at).(*class)
				if config == nil {
					continue
				}
				if s, ok := config.env.vars["name"].(string); ok {
					app = s
				} else {
					app = strings.TrimSuffix(app[:i], ".apps")
				}
				in.load(app, at)
			} else if apps := in.load(app+".apps", at); apps != nil {
				for _, k := range sortedKeys(apps.env.vars) {
					c, ok := apps.env.vars[k].(*class)
					if !ok {
						continue
					}
					if b := foreign(c, 0); b == extern("django.apps.AppConfig") || b == extern("django.apps.config.AppConfig") {
						config = c
					}
				}
			}
			in.load(app+".models", at)
			if config != nil {
				ready = append(ready, config)
			}
		}
		for _, c := range ready {
			o := &object{class: c.(*class), attrs: make(map[string]value), made: at}
			if v, ok := in.classAttr(o.class, "ready", 0); ok {
				in.call(in.bound(v, o, o.class, at), nil, at, nil)
			}
		}
		if name != "django.setup" {
			for _, x := range elements(settings.env.vars["MIDDLEWARE"]) {
				if s, ok := x.(string); ok && strings.Contains(s, ".") {
					i := strings.LastIndexByte(s, '.')
					if m := in.load(s[:i], at); m != nil {
						if v := m.env.vars[s[i+1:]]; v != nil {
							in.call(v, []arg{{}}, at, nil)
						}
					}
				}
			}
		}
		return nil, true
	}
	return nil, false
}

// processes follows multiprocessing: which way it starts processes, and where it
// does so.
func (in *interp) processes(name string, args []arg, at place) (value, bool) {
	switch name {
	case "multiprocessing.set_start_method":
		s, _ := first(args, "method").(string)
		in.spawn = s != "fork"
		return nil, true
	case "multiprocessing.get_context":
		if s, _ := first(args, "method").(string); s == "spawn" || s == "forkserver" {
			return extern("a context of multiprocessing that does not fork"), true
		}
		return extern("multiprocessing"), true
	case "multiprocessing.Process().start", "multiprocessing.context.Process().start":
		in.forks(at, "a multiprocessing process", false)
		return nil, true
	}
	return nil, false
}

// fork is a call of os.fork.
func (in *interp) fork(at place, e *env) {
	if e != nil && execs(e) {
		return
	}
	for i := len(in.hooks) - 1; i >= 0; i-- {
		if h := in.hooks[i]; h.when == "before" {
			in.call(h.fn, nil, at, e)
		}
	}
	in.forks(at, "os.fork()", true)
}

// execs reports whether the function around calls exec too: then what was copied
// is gone again.
func execs(e *env) bool {
	for s := e; s != nil; s = s.parent {
		if s.body == nil {
			continue
		}
		return callsAny(s.body, func(name string) bool {
			return strings.HasPrefix(name, "os.exec") || strings.HasPrefix(name, "exec") && len(name) <= 7 && len(name) > 4 || strings.HasPrefix(name, "os.posix_spawn")
		})
	}
	return false
}

func callsAny(body []pysrc.Stmt, is func(string) bool) bool {
	found := false
	for _, s := range body {
		pysrc.Walk(s, func(n pysrc.Node) bool {
			if c, ok := n.(*pysrc.Call); ok && is(dotted(c.Func)) {
				found = true
			}
			return !found
		})
	}
	return found
}

package pylint

import (
	"strings"

	"forkproof/internal/pysrc"
)

// builtins are the names of Python that are followed.
var builtins = map[string]bool{"super": true, "property": true, "staticmethod": true, "classmethod": true, "getattr": true, "setattr": true, "list": true, "tuple": true, "set": true, "iter": true,
	"next": true, "sorted": true, "dict": true, "map": true, "filter": true, "any": true, "all": true, "sum": true, "enumerate": true, "zip": true, "reversed": true, "__import__": true,
	"isinstance": true, "open": true, "print": true, "len": true, "type": true, "vars": true, "id": true, "repr": true, "str": true, "hasattr": true, "callable": true, "range": true}

// call follows a call of a value.
func (in *interp) call(f value, args []arg, at place, e *env) value {
	if in.spent() {
		return nil
	}
	args = spread(args)
	switch f := f.(type) {
	case *function:
		return in.callFunction(f, args, at)
	case *class:
		return in.instance(f, args, at)
	case *partial:
		if name, ok := f.fn.(extern); ok && strings.HasPrefix(string(name), "builtins.collection.") {
			return in.collection(strings.TrimPrefix(string(name), "builtins.collection."), f.args[0].v, args, at, e)
		}
		return in.call(f.fn, append(append([]arg{}, f.args...), args...), at, e)
	case extern:
		return in.callExtern(string(f), args, at, e)
	case *method:
		return in.callMethod(f, args, at, e)
	case *object:
		if f.class != nil {
			if v, ok := in.classAttr(f.class, "__call__", 0); ok {
				return in.call(in.bound(v, f, f.class, at), args, at, e)
			}
		}
		if f.api != nil && f.api.lives("__call__") {
			in.use(f, "__call__", at)
		}
		if f.name != "" {
			return in.foreignCall(f.name, f.name+"()", f, args, at)
		}
	}
	for _, a := range args {
		escape(a.v)
	}
	return nil
}

// spread puts the elements of *args in their places.
func spread(args []arg) []arg {
	for i, a := range args {
		if l, ok := a.v.(*list); ok && a.star == 1 {
			out := append([]arg{}, args[:i]...)
			for _, v := range l.elts[:min(len(l.elts), maxElts)] {
				out = append(out, arg{v: v})
			}
			return append(out, spread(args[i+1:])...)
		}
		if d, ok := a.v.(*dict); ok && a.star == 2 {
			out := append([]arg{}, args[:i]...)
			for k, v := range d.m {
				out = append(out, arg{name: k, v: v})
			}
			return append(out, spread(args[i+1:])...)
		}
	}
	return args
}

// collection is a method of a list or dictionary.
func (in *interp) collection(name string, x value, args []arg, at place, e *env) value {
	l, _ := x.(*list)
	d, _ := x.(*dict)
	for _, a := range args {
		escape(a.v)
	}
	switch {
	case l != nil && (name == "append" || name == "add" || name == "insert") && len(args) > 0 && len(l.elts) < maxElts:
		l.elts = append(l.elts, args[len(args)-1].v)
	case l != nil && name == "extend" && len(args) > 0:
		if more, ok := args[0].v.(*list); ok && len(l.elts) < maxElts {
			l.elts = join(l, more).elts
		}
	case l != nil && (name == "pop" || name == "copy"):
		return in.iterate(l)
	case d != nil && (name == "get" || name == "pop" || name == "setdefault") && len(args) > 0:
		if k, ok := args[0].v.(string); ok {
			if v, ok := d.m[k]; ok {
				return v
			}
		}
		if len(args) > 1 {
			if k, ok := args[0].v.(string); ok && name == "setdefault" {
				d.m[k] = args[1].v
			}
			return args[1].v
		}
	case d != nil && (name == "values" || name == "items"):
		out := &list{}
		for _, k := range sortedKeys(d.m) {
			if name == "items" {
				out.elts = append(out.elts, &list{[]value{k, d.m[k]}})
			} else {
				out.elts = append(out.elts, d.m[k])
			}
		}
		return out
	case d != nil && name == "update":
		for _, a := range args {
			if a.name != "" {
				d.m[a.name] = a.v
			}
		}
	}
	return nil
}

// callFunction runs a function's body; of a generator or coroutine later.
func (in *interp) callFunction(f *function, args []arg, at place) value {
	if f.self != nil {
		args = append([]arg{{v: f.self}}, args...)
	}
	if f.def != nil && (f.def.Async || f.kind == manager || in.a.yields(f.def)) {
		return &deferred{f, args}
	}
	return in.runFunction(f, args, at)
}

// force runs what was deferred.
func (in *interp) force(d *deferred) value {
	return in.runFunction(d.fn, d.args, place{d.fn.env.mod.src, d.fn.def.At()})
}

func (in *interp) runFunction(f *function, args []arg, at place) value {
	if in.depth >= maxDepth || f.code.active > 2 || f.code.runs > maxRuns {
		for _, a := range args {
			escape(a.v)
		}
		return nil
	}
	f.code.runs++
	f.code.active++
	in.depth++
	e := newEnv(f.env, f.env.mod)
	e.function = true
	e.owner = f.class
	params := []*pysrc.Param(nil)
	name := "a lambda"
	if f.def != nil {
		params, e.body, name = f.def.Params, f.def.Body, f.def.Name+"()"
	} else {
		params = f.lambda.Params
	}
	in.bindParams(e, params, args, f.env)
	if len(args) > 0 && f.class != nil {
		e.self = args[0].v
	}
	in.enter(at, "calls "+name)
	first := len(in.heap)
	weak := in.weak
	in.weak = 0
	var out value
	if f.def != nil {
		in.body(f.def.Body, e)
		out = e.vars[resultName]
	} else {
		out = in.eval(f.lambda.Body, e)
	}
	in.weak = weak
	in.collect(first, out)
	in.leave()
	in.depth--
	f.code.active--
	return out
}

func (in *interp) bindParams(e *env, params []*pysrc.Param, args []arg, defs *env) {
	used := 0
	positional := func() (value, bool) {
		for used < len(args) {
			a := args[used]
			used++
			if a.name == "" && a.star == 0 {
				return a.v, true
			}
		}
		return nil, false
	}
	rest := false
	for _, q := range params {
		switch q.Star {
		case 1:
			l := &list{}
			for v, ok := positional(); ok; v, ok = positional() {
				l.elts = append(l.elts, v)
			}
			e.vars[q.Name] = l
			rest = true
			continue
		case 2:
			d := &dict{make(map[string]value)}
			for _, a := range args {
				if _, taken := e.vars[a.name]; a.name != "" && !taken {
					d.m[a.name] = a.v
				}
			}
			e.vars[q.Name] = d
			continue
		}
		bound := false
		for _, a := range args {
			if a.name == q.Name {
				e.vars[q.Name], bound = a.v, true
			}
		}
		if bound {
			continue
		}
		if !rest {
			if v, ok := positional(); ok {
				e.vars[q.Name] = v
				continue
			}
		}
		if q.Default != nil {
			e.vars[q.Name] = in.eval(q.Default, defs)
		} else {
			e.vars[q.Name] = nil
		}
	}
}

// instance makes an instance of one of our classes and runs its __init__.
func (in *interp) instance(c *class, args []arg, at place) value {
	o := &object{class: c, attrs: make(map[string]value), made: at}
	switch b := foreign(c, 0).(type) {
	case extern:
		in.identify(o, string(b), args, at)
		o.name = string(b) + "()"
	case *method:
		o.name = b.obj.name + "." + b.name + "()"
		if b.obj.api != nil {
			o.via = append(o.via, b.obj)
		}
	}
	if v, ok := in.classAttr(c, "__init__", 0); ok {
		if f, ok := v.(*function); ok {
			in.callFunction(&function{def: f.def, env: f.env, self: o, class: f.class, kind: f.kind, code: f.code}, args, at)
		}
	}
	return o
}

// identify looks up what is known of how an object was made.
func (in *interp) identify(o *object, name string, args []arg, at place) {
	o.api = in.known.lookup(name)
	if o.api == nil {
		return
	}
	o.made = at
	for _, a := range args {
		if v, ok := a.v.(bool); ok && !v {
			for _, l := range o.api.Lazy {
				if l == a.name+"=False" {
					o.lazy = true
				}
			}
		}
		if a.name == "mp_context" && a.v != extern("multiprocessing") {
			o.spawns = true
		}
	}
	in.made(o)
	if is(o.api.Active, "made") && !o.lazy {
		in.use(o, "made", at)
	}
}

// foreignCall is the result of a call of something that is not ours: key is what was
// called, name what its result is called.
func (in *interp) foreignCall(key, name string, from *object, args []arg, at place) value {
	o := &object{name: name, made: at}
	if from != nil {
		if from.api != nil && !from.api.Through {
			o.via = append(o.via, from)
		} else {
			o.via = append(o.via, from.via...)
		}
	}
	for _, a := range args {
		objects(a.v, func(x *object) {
			switch {
			case x == from || len(o.via) > 8:
			case x.api != nil && !x.api.Through:
				o.via = append(o.via, x)
			default:
				o.via = append(o.via, x.via...)
			}
		})
		escape(a.v)
	}
	in.identify(o, key, args, at)
	in.mend(key)
	last := key[strings.LastIndexByte(key, '.')+1:]
	if queries[last] {
		for _, v := range o.via {
			if v.api != nil && v.api.lives("connect") {
				in.use(v, "connect", at)
			}
		}
	}
	return o
}

// queries are methods that use the engine that they are given.
var queries = map[string]bool{"create_all": true, "drop_all": true, "reflect": true, "to_sql": true, "run_migrations": true}

// callMethod is a call of client.path.method(...).
func (in *interp) callMethod(m *method, args []arg, at place, e *env) value {
	o := m.obj
	how := m.name
	full := o.name + "." + how
	last := how[strings.LastIndexByte(how, '.')+1:]
	if v, done := in.special(full, o, args, at, e); done {
		return v
	}
	if a := o.api; a != nil {
		switch {
		case is(a.Ends, how):
			if last == "shutdown" && falseArg(args, "wait") || last == "join" && a.What == "thread" && !o.live {
				break
			}
			if is(a.Renews, how) || !in.worker || !o.master {
				in.end(o, how)
			} else {
				in.use(o, how, at)
			}
		case in.worker && o.master && is(a.Renews, how):
			o.renewed = true
		case in.worker && o.master:
			// Whatever a worker does with what is alive there, it does with the master's.
			if a.lives(how) || a.What != "lock" && !is(a.Passive, how) && !strings.HasPrefix(last, "is_") {
				in.use(o, how, at)
			}
		case a.lives(how):
			in.use(o, how, at)
		}
	}
	if in.known.roots[root(full)] || o.api != nil || len(o.via) > 0 || strings.Contains(full, "create_all") {
		if o.api == nil && len(o.via) > 0 && (last == "start" || last == "submit") {
			in.use(o.via[0], last, at)
		}
		return in.foreignCall(full, full+"()", o, args, at)
	}
	for _, a := range args {
		escape(a.v)
	}
	return &object{name: full + "()", made: at}
}

func falseArg(args []arg, name string) bool {
	for i, a := range args {
		if v, ok := a.v.(bool); ok && !v && (a.name == name || a.name == "" && i == 0) {
			return true
		}
	}
	return false
}

// callExtern is a call of a name that is not ours.
func (in *interp) callExtern(name string, args []arg, at place, e *env) value {
	if v, done := in.special(name, nil, args, at, e); done {
		return v
	}
	if !in.known.roots[root(name)] && !anyObject(args) {
		for _, a := range args {
			escape(a.v)
		}
		return &object{name: name + "()", made: at}
	}
	return in.foreignCall(name, name+"()", nil, args, at)
}

func anyObject(args []arg) bool {
	found := false
	for _, a := range args {
		objects(a.v, func(o *object) { found = found || o.api != nil || len(o.via) > 0 })
	}
	return found
}

// mend notes that a function was called that makes something fit for workers: in
// a worker, or in the master after what it mends.
func (in *interp) mend(name string) {
	for _, a := range in.known.apis {
		if !is(a.Mends, name) {
			continue
		}
		if in.worker {
			in.mended[a] = true
			continue
		}
		own := in.known.lookup(name) == a
		for _, o := range in.heap {
			if o.api == a && !own {
				o.ended = true
			}
		}
	}
}

// first is the first argument without a name, or the one of that name.
func first(args []arg, name string) value {
	for i, a := range args {
		if a.name == name || i == 0 && a.name == "" && a.star == 0 {
			return a.v
		}
	}
	return nil
}

func named(args []arg, name string) value {
	for _, a := range args {
		if a.name == name {
			return a.v
		}
	}
	return nil
}

// yields reports whether a function is a generator.
func (a *Analyzer) yields(f *pysrc.FunctionDef) bool {
	if is, ok := a.generators[f]; ok {
		return is
	}
	found := false
	for _, s := range f.Body {
		pysrc.Walk(s, func(n pysrc.Node) bool {
			switch n.(type) {
			case *pysrc.FunctionDef, *pysrc.Lambda, *pysrc.ClassDef:
				return false
			case *pysrc.Yield:
				found = true
			}
			return !found
		})
	}
	a.generators[f] = found
	return found
}

// setenv notes that an environment variable is set.
func (in *interp) setenv(name string, to value, at place) {
	v := in.known.variables[name]
	if v == nil || in.set[name] != "" {
		return
	}
	for _, lib := range v.ReadBy {
		if from, ok := in.loaded[lib]; ok {
			in.late(name, lib, v, from, at)
			return
		}
	}
	in.set[name] = "?"
	if s, ok := to.(string); ok && s != "" {
		in.set[name] = s
	}
	if in.hooking == "post_fork" && in.blind && in.preloaded {
		in.late(name, v.ReadBy[0], v, place{}, at)
	}
}

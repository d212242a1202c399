package pylint

import (
	"forkproof/internal/pysrc"
	"forkproof/internal/serverconf"
)

// flow is how a body ends.
type flow uint8

const (
	falls flow = iota
	returns
	breaks // break, continue
)

// result of a call is kept in the scope under this name, which no program has.
const resultName = " result"

// body executes statements in order.
func (in *interp) body(all []pysrc.Stmt, e *env) flow {
	for _, s := range all {
		if in.spent() {
			return returns
		}
		if f := in.stmt(s, e); f != falls {
			return f
		}
	}
	return falls
}

func (in *interp) at(n pysrc.Node, e *env) place { return place{e.mod.src, n.At()} }

func (in *interp) stmt(s pysrc.Stmt, e *env) flow {
	switch s := s.(type) {
	case *pysrc.ExprStmt:
		in.eval(s.X, e)
	case *pysrc.Assign:
		v := in.eval(s.Value, e)
		for _, t := range s.Targets {
			in.assign(t, v, e)
		}
	case *pysrc.AnnAssign:
		if s.Value != nil {
			in.assign(s.Target, in.eval(s.Value, e), e)
		}
	case *pysrc.AugAssign:
		v := in.eval(s.Value, e)
		if old, ok := in.eval(s.Target, e).(*list); ok {
			if more, ok := v.(*list); ok {
				in.assign(s.Target, join(old, more), e)
			}
			break
		}
		in.assign(s.Target, nil, e)
	case *pysrc.FunctionDef:
		in.define(s, e)
	case *pysrc.ClassDef:
		in.classDef(s, e)
	case *pysrc.Return:
		if s.X != nil {
			in.result(in.eval(s.X, e), e)
		}
		return returns
	case *pysrc.Raise:
		if s.X != nil {
			in.eval(s.X, e)
		}
		return returns
	case *pysrc.Delete:
		for _, t := range s.Targets {
			if n, ok := t.(*pysrc.Name); ok {
				if o, ok := in.eval(n, e).(*object); ok && o.api != nil && o.api.Local {
					in.end(o, "del")
				}
				delete(e.scope(n.ID).vars, n.ID)
			}
		}
	case *pysrc.If:
		return in.ifStmt(s, e)
	case *pysrc.For:
		return in.forLoop(s, e)
	case *pysrc.While:
		if in.truth(s.Test, e) == serverconf.No {
			return in.body(s.Else, e)
		}
		f := in.body(s.Body, e)
		if f == returns && in.truth(s.Test, e) == serverconf.Yes {
			return returns
		}
		in.body(s.Else, e)
	case *pysrc.With:
		return in.with(s, e)
	case *pysrc.Try:
		return in.try(s, e)
	case *pysrc.Match:
		in.eval(s.Subject, e)
		for _, c := range s.Cases {
			in.pattern(c.Pattern, e)
			in.body(c.Body, e)
		}
	case *pysrc.Import:
		for _, a := range s.Names {
			first, last := in.importName(a.Name, place{e.mod.src, a.Span})
			if a.As != "" {
				in.bind(a.As, last, e)
			} else {
				root := a.Name
				for i := range root {
					if root[i] == '.' {
						root = root[:i]
						break
					}
				}
				in.bind(root, first, e)
			}
		}
	case *pysrc.ImportFrom:
		in.importFrom(s, e, in.at(s, e))
	case *pysrc.Global:
		if !s.Nonlocal {
			if e.global == nil {
				e.global = make(map[string]bool)
			}
			for _, n := range s.Names {
				e.global[n] = true
			}
		}
	case *pysrc.Assert:
		in.eval(s.Test, e)
	case *pysrc.Simple:
		if s.Word != "pass" {
			return breaks
		}
	}
	return falls
}

// result keeps what a function returns: of several the first that is known.
func (in *interp) result(v value, e *env) {
	for s := e; s != nil; s = s.parent {
		if s.function {
			if old := s.vars[resultName]; old == nil || old == (none{}) {
				s.vars[resultName] = v
			}
			return
		}
	}
}

// ifStmt executes the branches that may be taken: all of them, where the condition
// is not known, with what one assigns standing beside what another does.
func (in *interp) ifStmt(s *pysrc.If, e *env) flow {
	out := returns
	taken := false
	for _, b := range s.Branches {
		t := in.truth(b.Test, e)
		if t == serverconf.No {
			continue
		}
		if taken {
			in.weak++
		}
		f := in.body(b.Body, e)
		if taken {
			in.weak--
		}
		taken = true
		if f == falls {
			out = falls
		} else if f == breaks && out == returns {
			out = breaks
		}
		if t == serverconf.Yes {
			return out
		}
	}
	if s.Else == nil {
		return falls
	}
	if taken {
		in.weak++
		defer func() { in.weak-- }()
	}
	if f := in.body(s.Else, e); f == falls {
		out = falls
	} else if f == breaks && out == returns {
		out = breaks
	}
	return out
}

func (in *interp) forLoop(s *pysrc.For, e *env) flow {
	v := in.eval(s.Iter, e)
	if l, ok := v.(*list); ok && len(l.elts) > 0 {
		for i, x := range l.elts {
			if i >= maxElts {
				break
			}
			in.assign(s.Target, x, e)
			if in.body(s.Body, e) == returns {
				break
			}
		}
	} else if !ok || len(l.elts) > 0 {
		in.assign(s.Target, in.iterate(v), e)
		in.body(s.Body, e)
	}
	in.body(s.Else, e)
	return falls
}

// iterate runs a generator, and returns what is known of its elements.
func (in *interp) iterate(v value) value {
	switch v := v.(type) {
	case *deferred:
		in.force(v)
	case *list:
		if len(v.elts) > 0 {
			return v.elts[0]
		}
	}
	return nil
}

func (in *interp) with(s *pysrc.With, e *env) flow {
	var open []value
	for _, i := range s.Items {
		v := in.eval(i.Context, e)
		open = append(open, v)
		target := v
		switch c := v.(type) {
		case *deferred: // of a function with contextlib.contextmanager
			target = in.force(c)
		case *closing:
			target = c.obj
		case *object:
			if c.class != nil {
				if m := in.attr(c, "__enter__", in.at(i.Context, e)); m != nil {
					target = in.call(m, nil, in.at(i.Context, e), e)
				}
			} else if c.api != nil {
				if c.api.lives("__enter__") {
					in.use(c, "__enter__", in.at(i.Context, e))
				}
			}
		}
		if i.Target != nil {
			in.assign(i.Target, target, e)
		}
	}
	f := in.body(s.Body, e)
	for _, v := range open {
		switch c := v.(type) {
		case *closing:
			objects(c.obj, func(o *object) { in.end(o, "close") })
		case *object:
			switch {
			case c.class != nil:
				if m := in.attr(c, "__exit__", in.at(s, e)); m != nil {
					in.call(m, nil, in.at(s, e), e)
				}
			case c.api != nil && c.api.Closes:
				in.end(c, "close")
			}
		}
	}
	return f
}

func (in *interp) try(s *pysrc.Try, e *env) flow {
	f := in.body(s.Body, e)
	// A handler may run instead of what follows the error: what it assigns stands
	// where the body assigned nothing.
	in.weak++
	for _, h := range s.Handlers {
		if in.body(h.Body, e) == falls && f == returns {
			f = falls
		}
	}
	in.weak--
	if f == falls {
		f = in.body(s.Else, e)
	}
	if g := in.body(s.Finally, e); g != falls {
		return g
	}
	return f
}

func (in *interp) pattern(p *pysrc.Pattern, e *env) {
	if p.Name != "" {
		in.bind(p.Name, nil, e)
	}
	for _, s := range p.Sub {
		in.pattern(s, e)
	}
}

// assign gives a target its value.
func (in *interp) assign(t pysrc.Expr, v value, e *env) {
	switch t := t.(type) {
	case *pysrc.Name:
		in.bind(t.ID, v, e)
	case *pysrc.Attribute:
		escape(v)
		switch x := in.eval(t.X, e).(type) {
		case *object:
			if x.class == nil && x.api == nil && x.attrs == nil {
				x.attrs = make(map[string]value)
			}
			if x.attrs != nil {
				in.replaced(x.attrs[t.Attr], v)
				x.attrs[t.Attr] = v
			}
		case *module:
			in.replaced(x.env.vars[t.Attr], v)
			x.env.vars[t.Attr] = v
		case *class:
			in.replaced(x.env.vars[t.Attr], v)
			x.env.vars[t.Attr] = v
		case *method:
			if s, ok := v.(string); ok && t.Attr == "worker_pool" && root(x.obj.name) == "celery" {
				in.pool = s
			}
		case extern:
			if x == "uwsgi" && t.Attr == "post_fork_hook" {
				in.hooks = append(in.hooks, hook{"worker", v, "uwsgi.post_fork_hook"})
			}
		}
	case *pysrc.Subscript:
		escape(v)
		x := in.eval(t.X, e)
		key := in.eval(t.Index, e)
		switch x := x.(type) {
		case extern:
			if s, ok := key.(string); ok && x == "os.environ" {
				in.setenv(s, v, in.at(t, e))
			}
		case *dict:
			if s, ok := key.(string); ok {
				in.replaced(x.m[s], v)
				x.m[s] = v
			} else {
				x.m[" any"] = v
			}
		case *list:
			if len(x.elts) < maxElts {
				x.elts = append(x.elts, v)
			}
		}
	case *pysrc.Starred:
		in.assign(t.X, nil, e)
	case *pysrc.Sequence:
		l, ok := v.(*list)
		for i, x := range t.Elts {
			if ok && i < len(l.elts) && len(l.elts) == len(t.Elts) {
				in.assign(x, l.elts[i], e)
			} else {
				in.assign(x, nil, e)
			}
		}
	}
}

// define binds a function, through its decorators.
func (in *interp) define(s *pysrc.FunctionDef, e *env) {
	f := &function{def: s, env: e, code: &code{}}
	for _, q := range s.Params {
		if q.Default != nil {
			in.eval(q.Default, e)
		}
	}
	if e.function {
		e.keeps = true
		for _, v := range e.vars {
			escape(v)
		}
	}
	if e.class != nil {
		f.class = e.class
	}
	var v value = f
	for i := len(s.Decorators) - 1; i >= 0; i-- {
		v = in.decorate(s.Decorators[i], v, e)
	}
	in.bind(s.Name, v, e)
}

func (in *interp) decorate(d pysrc.Expr, v value, e *env) value {
	dec := in.eval(d, e)
	if f, ok := v.(*function); ok {
		switch dec {
		case extern("builtins.property"), extern("functools.cached_property"), extern("django.utils.functional.cached_property"), extern("werkzeug.utils.cached_property"):
			f.kind = property
			return f
		case extern("builtins.staticmethod"):
			f.kind = static
			return f
		case extern("builtins.classmethod"):
			f.kind = classMethod
			return f
		case extern("contextlib.contextmanager"):
			f.kind = manager
			return f
		}
	}
	if dec == nil {
		return v
	}
	out := in.call(dec, []arg{{v: v}}, in.at(d, e), e)
	switch out.(type) {
	case *function, *class, *partial:
		return out
	}
	// A decorator that is not ours registers what it is given, or wraps it.
	return v
}

func (in *interp) classDef(s *pysrc.ClassDef, e *env) {
	c := &class{def: s, env: newEnv(e, e.mod)}
	c.env.class = c
	for _, a := range s.Args {
		v := in.eval(a.Value, e)
		if a.Name == "" && a.Star == 0 {
			c.bases = append(c.bases, v)
		}
	}
	if in.depth < maxDepth {
		in.depth++
		in.body(s.Body, c.env)
		in.depth--
	}
	var v value = c
	for i := len(s.Decorators) - 1; i >= 0; i-- {
		v = in.decorate(s.Decorators[i], v, e)
	}
	in.bind(s.Name, v, e)
}

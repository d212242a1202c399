package pylint

import (
	"strings"

	"forkproof/internal/pysrc"
	"forkproof/internal/serverconf"
)

// eval follows an expression, with all calls in it, and returns what is known of
// its value.
func (in *interp) eval(x pysrc.Expr, e *env) value {
	if in.nest > maxNesting {
		return nil
	}
	in.nest++
	defer func() { in.nest-- }()
	switch x := x.(type) {
	case nil:
		return nil
	case *pysrc.Name:
		if v, ok := e.lookup(x.ID); ok {
			return v
		}
		if builtins[x.ID] {
			return extern("builtins." + x.ID)
		}
	case *pysrc.Constant:
		switch x.Kind {
		case pysrc.String:
			return x.Value()
		case pysrc.Int:
			if n, ok := x.Number(); ok {
				return n
			}
		case pysrc.True:
			return true
		case pysrc.False:
			return false
		case pysrc.None:
			return none{}
		}
	case *pysrc.Attribute:
		return in.attr(in.eval(x.X, e), x.Attr, in.at(x, e))
	case *pysrc.Call:
		f := in.eval(x.Func, e)
		args := make([]arg, 0, len(x.Args))
		for _, a := range x.Args {
			args = append(args, arg{a.Name, a.Star, in.eval(a.Value, e)})
		}
		return in.call(f, args, in.at(x, e), e)
	case *pysrc.Subscript:
		return in.subscript(in.eval(x.X, e), in.eval(x.Index, e))
	case *pysrc.Sequence:
		l := &list{}
		for _, y := range x.Elts {
			v := in.eval(y, e)
			if _, ok := y.(*pysrc.Starred); ok {
				if more, ok := v.(*list); ok {
					l = join(l, more)
				}
				continue
			}
			l.elts = append(l.elts, v)
		}
		return l
	case *pysrc.Dict:
		d := &dict{make(map[string]value)}
		for i := range x.Keys {
			v := in.eval(x.Values[i], e)
			switch k := in.eval(x.Keys[i], e).(type) {
			case string:
				d.m[k] = v
			default:
				d.m[" any"] = v
			}
		}
		return d
	case *pysrc.BinOp:
		a, b := in.eval(x.X, e), in.eval(x.Y, e)
		switch a := a.(type) {
		case string:
			if b, ok := b.(string); ok && x.Op == "+" && len(a)+len(b) < 1<<16 {
				return a + b
			}
		case *list:
			if b, ok := b.(*list); ok && x.Op == "+" {
				return join(a, b)
			}
		}
	case *pysrc.UnaryOp:
		if x.Op == "not" {
			switch in.truth(x, e) {
			case serverconf.Yes:
				return true
			case serverconf.No:
				return false
			}
			return nil
		}
		if n, ok := in.eval(x.X, e).(int64); ok && x.Op == "-" {
			return -n
		}
	case *pysrc.BoolOp:
		var known value
		for _, y := range x.Values {
			v := in.eval(y, e)
			if v != nil && v != (none{}) && known == nil {
				known = v
			}
		}
		return known
	case *pysrc.Compare:
		in.eval(x.Left, e)
		for _, y := range x.Rest {
			in.eval(y, e)
		}
	case *pysrc.IfExp:
		switch in.truth(x.Test, e) {
		case serverconf.Yes:
			return in.eval(x.Body, e)
		case serverconf.No:
			return in.eval(x.Else, e)
		}
		a, b := in.eval(x.Body, e), in.eval(x.Else, e)
		if a == nil || a == (none{}) {
			return b
		}
		return a
	case *pysrc.Lambda:
		if e.function {
			e.keeps = true
		}
		return &function{lambda: x, env: e, code: &code{}}
	case *pysrc.Comp:
		return in.comp(x, e)
	case *pysrc.Await:
		v := in.eval(x.X, e)
		if d, ok := v.(*deferred); ok {
			return in.force(d)
		}
		return v
	case *pysrc.Yield:
		if x.X != nil {
			v := in.eval(x.X, e)
			escape(v)
			in.result(v, e)
		}
	case *pysrc.Starred:
		return in.eval(x.X, e)
	case *pysrc.NamedExpr:
		v := in.eval(x.X, e)
		in.bind(x.Target.ID, v, e)
		return v
	case *pysrc.JoinedStr:
		for _, f := range x.Values {
			in.eval(f.X, e)
		}
	case *pysrc.Slice:
		return nil
	}
	return nil
}

// comp follows a comprehension once for each element that is known; a generator
// too, since whoever is given one mostly runs it.
func (in *interp) comp(x *pysrc.Comp, e *env) value {
	s := newEnv(e, e.mod)
	s.function = e.function
	s.body = e.body
	out := &list{}
	var each func(i int)
	each = func(i int) {
		if i == len(x.For) {
			v := in.eval(x.Elt, s)
			if x.Value != nil {
				v = in.eval(x.Value, s)
			}
			if len(out.elts) < maxElts {
				out.elts = append(out.elts, v)
			}
			return
		}
		f := x.For[i]
		v := in.eval(f.Iter, s)
		elts := []value{nil}
		if l, ok := v.(*list); ok {
			elts = l.elts
		} else {
			elts[0] = in.iterate(v)
		}
		for n, y := range elts {
			if n >= maxElts || in.spent() {
				break
			}
			in.assign(f.Target, y, s)
			for _, c := range f.Ifs {
				in.eval(c, s)
			}
			each(i + 1)
		}
	}
	each(0)
	return out
}

func (in *interp) subscript(x, key value) value {
	switch x := x.(type) {
	case *dict:
		if k, ok := key.(string); ok {
			if v, ok := x.m[k]; ok {
				return v
			}
		}
		return x.m[" any"]
	case *list:
		if n, ok := key.(int64); ok {
			if n < 0 {
				n += int64(len(x.elts))
			}
			if n >= 0 && n < int64(len(x.elts)) {
				return x.elts[n]
			}
		}
		if len(x.elts) > 0 {
			return x.elts[0]
		}
	case extern:
		return x + "[]"
	case *object:
		if x.class == nil {
			return &method{x, "[]"}
		}
	case *method:
		return &method{x.obj, x.name + "[]"}
	case *class:
		return x // a generic class with its parameters
	}
	return nil
}

// attr is an attribute of a value.
func (in *interp) attr(x value, name string, at place) value {
	switch x := x.(type) {
	case extern:
		return x + extern("."+name)
	case *module:
		if v, ok := x.env.vars[name]; ok {
			return v
		}
		if sub := in.modules[x.name+"."+name]; sub != nil {
			return sub
		}
	case *object:
		if v, ok := x.attrs[name]; ok {
			return v
		}
		if x.class == nil {
			return &method{x, name}
		}
		if v, ok := in.classAttr(x.class, name, 0); ok {
			return in.bound(v, x, x.class, at)
		}
		if x.api != nil || x.name != "" {
			return &method{x, name}
		}
	case *method:
		return &method{x.obj, x.name + "." + name}
	case *class:
		if v, ok := in.classAttr(x, name, 0); ok {
			if f, ok := v.(*function); ok && f.kind == classMethod {
				return &function{def: f.def, lambda: f.lambda, env: f.env, self: x, class: f.class, kind: f.kind, code: f.code}
			}
			return v
		}
	case *super:
		for _, b := range x.class.bases {
			switch b := b.(type) {
			case *class:
				if v, ok := in.classAttr(b, name, 0); ok {
					return in.bound(v, x.self, b, at)
				}
			case extern, *method:
				if o, ok := x.self.(*object); ok {
					return &method{o, name}
				}
			}
		}
	case *partial:
		if name == "func" {
			return x.fn
		}
	case *list, *dict:
		return &partial{fn: extern("builtins.collection." + name), args: []arg{{v: x}}}
	}
	return nil
}

// bound binds what was found in a class to an instance.
func (in *interp) bound(v value, self value, c *class, at place) value {
	f, ok := v.(*function)
	if !ok {
		return v
	}
	switch f.kind {
	case static:
		return f
	case classMethod:
		self = c
	}
	b := &function{def: f.def, lambda: f.lambda, env: f.env, self: self, class: f.class, kind: f.kind, code: f.code}
	if f.kind == property {
		return in.callFunction(b, nil, at)
	}
	return b
}

// classAttr finds an attribute in a class and its bases. A base that is not ours
// has all attributes.
func (in *interp) classAttr(c *class, name string, depth int) (value, bool) {
	if depth > 30 {
		return nil, false
	}
	if v, ok := c.env.vars[name]; ok {
		return v, true
	}
	for _, b := range c.bases {
		if b, ok := b.(*class); ok && b != c {
			if v, ok := in.classAttr(b, name, depth+1); ok {
				return v, true
			}
		}
	}
	if depth > 0 {
		return nil, false
	}
	if b := foreign(c, 0); b != nil && !strings.HasPrefix(name, "__") {
		if b, ok := b.(extern); ok {
			// Attributes of the classes of models: Model.objects, Base.metadata.
			if strings.HasPrefix(string(b), "django.db") || strings.HasPrefix(string(b), "sqlalchemy") || strings.HasPrefix(string(b), "sqlmodel") {
				return b + extern("."+name), true
			}
			return nil, false
		}
		if m, ok := b.(*method); ok {
			return &method{m.obj, m.name + "." + name}, true
		}
	}
	return nil, false
}

func root(name string) string {
	r, _, _ := strings.Cut(name, ".")
	return r
}

// foreign is the first base of a class that is not ours, nil where there is none.
func foreign(c *class, depth int) value {
	if depth > 30 {
		return nil
	}
	for _, b := range c.bases {
		switch b := b.(type) {
		case extern, *method:
			return b
		case *class:
			if b != c {
				if v := foreign(b, depth+1); v != nil {
					return v
				}
			}
		}
	}
	return nil
}

// truth says whether a condition holds in a server, as far as that is plain:
// __name__ is not "__main__", Flask's and Django's reloaders are not there, and
// manage.py's commands are not run.
func (in *interp) truth(x pysrc.Expr, e *env) serverconf.Tri {
	switch x := x.(type) {
	case *pysrc.UnaryOp:
		if x.Op == "not" {
			switch in.truth(x.X, e) {
			case serverconf.Yes:
				return serverconf.No
			case serverconf.No:
				return serverconf.Yes
			}
			return serverconf.Unknown
		}
	case *pysrc.BoolOp:
		out := serverconf.Yes
		stop, other := serverconf.No, serverconf.Yes
		if x.Op == "or" {
			stop, other, out = serverconf.Yes, serverconf.No, serverconf.No
		}
		for _, y := range x.Values {
			switch in.truth(y, e) {
			case stop:
				return stop
			case other:
			default:
				out = serverconf.Unknown
			}
		}
		return out
	case *pysrc.Compare:
		if len(x.Ops) == 1 {
			return in.compare(x.Ops[0], in.eval(x.Left, e), in.eval(x.Rest[0], e))
		}
	case *pysrc.Name:
		if x.ID == "TYPE_CHECKING" {
			return serverconf.No
		}
	}
	v := in.eval(x, e)
	switch v := v.(type) {
	case bool:
		if v {
			return serverconf.Yes
		}
		return serverconf.No
	case none:
		// It may have been given another value where nothing was seen.
		return serverconf.Unknown
	case string:
		if v == "" {
			return serverconf.No
		}
		return serverconf.Yes
	case int64:
		if v == 0 {
			return serverconf.No
		}
		return serverconf.Yes
	case extern:
		if v == "typing.TYPE_CHECKING" || v == reloader {
			return serverconf.No
		}
	}
	return serverconf.Unknown
}

// reloader is the value of a variable that only a development server's child has.
const reloader = extern("os.environ of a reloader")

// developerCommands are words of manage.py's and Flask's command lines with which
// no server runs.
var developerCommands = map[string]bool{"runserver": true, "shell": true, "migrate": true, "test": true, "makemigrations": true, "collectstatic": true, "pytest": true, "--reload": true}

func (in *interp) compare(op string, a, b value) serverconf.Tri {
	answer := func(is bool) serverconf.Tri {
		if is == (op == "==" || op == "is" || op == "in") {
			return serverconf.Yes
		}
		return serverconf.No
	}
	if a == reloader || b == reloader {
		return answer(false)
	}
	switch op {
	case "==", "!=":
		switch a := a.(type) {
		case string:
			if b, ok := b.(string); ok {
				return answer(a == b)
			}
		case int64:
			if b, ok := b.(int64); ok {
				return answer(a == b)
			}
		}
	case "in", "not in":
		if s, ok := a.(string); ok && developerCommands[s] && (b == extern("sys.argv") || b == extern("sys.argv[]")) {
			return answer(false)
		}
		if s, ok := b.(extern); ok && s == "sys.modules" && a == "pytest" {
			return answer(false)
		}
	case "is", "is not":
		if b == (none{}) {
			switch a.(type) {
			case *object, *function, *class, *module, string, int64, bool:
				return answer(false)
			}
		}
	}
	return serverconf.Unknown
}

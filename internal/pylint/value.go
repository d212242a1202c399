package pylint

import (
	"forkproof/internal/finding"
	"forkproof/internal/pysrc"
)

// value is what an expression is known to be. Beside the types below it may be a
// string, an int64 or a bool; nil is anything.
type value any

type (
	// none is None.
	none struct{}
	// extern is a name of a library, by its dotted path.
	extern string
	// module is one of the project's own.
	module struct {
		name string
		src  *source // nil of a package without a file
		env  *env
		dir  string // of a package
	}
	// function is one of the project's own, with what it is bound to.
	function struct {
		def    *pysrc.FunctionDef
		lambda *pysrc.Lambda
		env    *env
		self   value // what it is bound to, or nil
		class  *class
		kind   functionKind
		code   *code
	}
	// code is what all bindings of a function share.
	code struct{ runs, active int }
	// class is one of the project's own.
	class struct {
		def   *pysrc.ClassDef
		env   *env
		bases []value
	}
	// super is what super() returns.
	super struct {
		self  value
		class *class
	}
	// method is an attribute of an object whose class is not ours: client.db.users.
	method struct {
		obj  *object
		name string
	}
	// list is a sequence of which some elements are known.
	list struct{ elts []value }
	// dict has the values of its constant keys.
	dict struct{ m map[string]value }
	// deferred is a call that runs later: of a generator or coroutine.
	deferred struct {
		fn   *function
		args []arg
	}
	// partial is a function with some arguments.
	partial struct {
		fn   value
		args []arg
	}
	// closing closes its object at the end of a with block.
	closing struct{ obj value }
)

type functionKind uint8

const (
	plain functionKind = iota
	property
	static
	classMethod
	manager // of a with statement
)

// arg is an argument of a call.
type arg struct {
	name string
	star int
	v    value
}

// object is what a call of a class or function that is not ours returned, or an
// instance of one of our classes.
type object struct {
	name  string // how it was made: "requests.Session()"
	api   *API   // what is known of it, or nil
	class *class
	attrs map[string]value
	// via are the objects that it was made from.
	via []*object
	// made and lived are where it was made, and where it became live.
	made, lived   place
	method        string
	path          []string // how the program came there
	live, ended   bool
	renewed       bool
	escaped       bool
	master        bool // made before the fork
	spawns        bool // multiprocessing that does not fork
	lazy          bool // it was told not to connect
	usedAfterFork bool
}

// env is a scope.
type env struct {
	vars   map[string]value
	parent *env
	mod    *module
	class  *class
	// global are names declared so.
	global map[string]bool
	// function: a scope of a call. keeps: a function within may keep what is local.
	function, keeps bool
	// self and owner are what super() needs.
	self  value
	owner *class
	body  []pysrc.Stmt
}

func newEnv(parent *env, mod *module) *env {
	return &env{vars: make(map[string]value), parent: parent, mod: mod}
}

// lookup finds a name: a scope of a class is not seen from functions within.
func (e *env) lookup(name string) (value, bool) {
	for s := e; s != nil; s = s.parent {
		if s != e && s.class != nil {
			continue
		}
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

// scope is where an assignment of a name goes.
func (e *env) scope(name string) *env {
	if e.global[name] {
		return e.mod.env
	}
	return e
}

// finished reports whether nothing of an object is left.
func (o *object) finished() bool { return o.ended || o.renewed }

// severity is how much an object matters at the fork; ok is false where it does
// not.
func (o *object) severity() (s finding.Severity, ok bool) {
	switch {
	case o.api == nil || o.finished() || !o.master:
		return 0, false
	case o.live:
		return severity(o.api.Severity)
	}
	return severity(o.api.Idle)
}

// maxHeld bounds how many parts of a value are looked at: tables of constants are
// large, and hold nothing.
const maxHeld = 2000

// objects visits those that a value holds.
func objects(v value, visit func(*object)) {
	left := maxHeld
	held(v, 0, &left, visit)
}

func held(v value, depth int, left *int, visit func(*object)) {
	if *left--; depth > 4 || *left < 0 {
		return
	}
	switch v := v.(type) {
	case *object:
		visit(v)
		if v.class != nil {
			for _, a := range v.attrs {
				held(a, depth+1, left, visit)
			}
		}
	case *method:
		visit(v.obj)
	case *list:
		for _, e := range v.elts {
			held(e, depth+1, left, visit)
		}
	case *dict:
		for _, e := range v.m {
			held(e, depth+1, left, visit)
		}
	case *partial:
		held(v.fn, depth+1, left, visit)
		for _, a := range v.args {
			held(a.v, depth+1, left, visit)
		}
	case *closing:
		held(v.obj, depth+1, left, visit)
	case *function:
		held(v.self, depth+1, left, visit)
	}
}

// escape marks what a value holds as kept by something that outlives the call.
func escape(v value) {
	objects(v, func(o *object) { o.escaped = true })
}

// maxList bounds a list: one that a program makes longer is known in part.
const maxList = 512

// join is a list of what two lists hold.
func join(a, b *list) *list {
	out := &list{make([]value, 0, min(len(a.elts)+len(b.elts), maxList))}
	for _, l := range []*list{a, b} {
		out.elts = append(out.elts, l.elts[:min(len(l.elts), maxList-len(out.elts))]...)
	}
	return out
}

package atfork

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
)

// node is a function that is reached: of an image, or by name alone.
type node struct {
	image *image
	addr  uint64
	name  string
	// args are the constants that came as arguments, where the function passes
	// them on or calls them: functions, and objects such as locks.
	args [6]uint64
}

// maxFunctions bounds how many functions one handler is followed through.
const maxFunctions = 4000

// callbacks are functions of C libraries that call the function which they get
// as the argument of that number, before they return.
var callbacks = map[string]int{
	"pthread_once": 1, "__pthread_once": 1, "call_once": 1, "qsort": 3, "qsort_r": 3, "bsearch": 4, "dl_iterate_phdr": 0,
}

// visit is a node on the way of a walk.
type visit struct {
	node
	from int // index of the visit that led here, -1 for a root
	at   uint64
	soft bool
}

// walker walks the calls from the roots on, breadth first, so that the first way
// to a function is a shortest one.
type walker struct {
	*analysis
	visits []visit
	seen   map[node]bool
	// variants counts the arguments with which a function was walked.
	variants map[node]int
	leaves   map[[2]string]Leaf
	out      Reach
}

// maxVariants bounds them: beyond, a function is walked once more for all.
const maxVariants = 8

func (a *analysis) walk(roots []node) Reach {
	w := &walker{analysis: a, seen: make(map[node]bool), variants: make(map[node]int), leaves: make(map[[2]string]Leaf)}
	for _, r := range roots {
		w.push(r, -1, 0, false)
	}
	for i := 0; i < len(w.visits); i++ {
		if w.out.Functions >= maxFunctions {
			w.out.Cut = "more than " + itoa(maxFunctions) + " functions are reached; the nearest were walked"
			break
		}
		w.function(i)
	}
	for _, l := range w.leaves {
		w.out.Leaves = append(w.out.Leaves, l)
	}
	slices.SortFunc(w.out.Leaves, func(x, y Leaf) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Lock, y.Lock)) })
	return w.out
}

// push goes to a function, unless it was reached before.
func (w *walker) push(n node, from int, at uint64, soft bool) {
	if n.image == nil {
		w.outside(n, from, at, soft)
		return
	}
	plain := node{image: n.image, addr: n.addr}
	if w.variants[plain] >= maxVariants || !n.image.function(n.addr).usesParams() {
		n = plain
	}
	if w.seen[n] {
		return
	}
	w.seen[n] = true
	w.variants[plain]++
	w.visits = append(w.visits, visit{n, from, at, soft})
}

// usesParams reports whether the function calls, or passes on, what it got.
func (f *function) usesParams() bool {
	for _, s := range f.sites {
		if s.value.kind == isParam {
			return true
		}
		for _, a := range s.args {
			if a.kind == isParam {
				return true
			}
		}
	}
	return false
}

// outside is a call of a function that another library has.
func (w *walker) outside(n node, from int, at uint64, soft bool) {
	if img, addr, ok := w.library(w.imageOf(from), n.name); ok {
		w.push(node{image: img, addr: addr, args: n.args}, from, at, soft)
		return
	}
	lock := ""
	if img := w.imageOf(from); aboutLock(n.name) && img.writable(n.args[0]) {
		lock = img.variable(n.args[0])
	}
	key := [2]string{n.name, lock}
	if l, ok := w.leaves[key]; ok && (!l.Soft || soft) {
		return
	}
	w.leaves[key] = Leaf{Name: n.name, Path: w.path(from, at), Soft: soft, Lock: lock}
}

// aboutLock reports whether the first argument of a function is a lock.
func aboutLock(name string) bool {
	for _, p := range []string{"pthread_mutex_", "pthread_rwlock_", "pthread_spin_", "mtx_", "sem_"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

func (w *walker) imageOf(i int) *image {
	if i < 0 {
		return w.image
	}
	return w.visits[i].image
}

// path is how the call at addr in the function of visit i is reached.
func (w *walker) path(i int, at uint64) []Step {
	var out []Step
	for ; i >= 0; i = w.visits[i].from {
		v := w.visits[i]
		s := Step{Func: v.image.name(v.addr), Addr: at}
		if v.image != w.image {
			s.File = filepath.Base(v.image.path)
		}
		out = append(out, s)
		at = v.at
	}
	slices.Reverse(out)
	return out
}

func (w *walker) function(i int) {
	v := w.visits[i]
	f := v.image.function(v.addr)
	w.out.Functions++
	if f.problem != "" {
		w.unresolved(i, v.addr, "the code of "+v.image.name(v.addr)+" cannot be read: "+f.problem)
		return
	}
	if f.bad > 0 && f.bad*8 > int(f.end-f.start) {
		w.unresolved(i, v.addr, "the code of "+v.image.name(v.addr)+" cannot be decoded")
	}
	for _, s := range f.sites {
		w.site(i, s)
	}
}

// site follows one call.
func (w *walker) site(i int, s site) {
	v := &w.visits[i]
	img := v.image
	var args [6]uint64
	for k, a := range s.args {
		if c, ok := a.constant(); ok && img.mapped(c) {
			args[k] = c
		} else if a.kind == isParam && a.a[0] < uint64(len(v.args)) {
			args[k] = v.args[a.a[0]]
		}
	}
	to := func(c callee, soft bool) {
		soft = soft || w.visits[i].soft
		if c.name != "" {
			if k, ok := callbacks[strings.TrimPrefix(c.name, "__")]; ok {
				if c := img.target(args[k]); args[k] != 0 && c.ok && c.name == "" {
					w.push(node{image: img, addr: c.addr}, i, s.at, soft)
				} else if s.args[k].kind != isImport {
					w.unresolved(i, s.at, "the function that "+c.name+" calls: "+img.describe(s.args[k]))
				}
			}
			w.push(node{name: c.name, args: args}, i, s.at, soft)
			return
		}
		w.push(node{image: img, addr: c.addr, args: args}, i, s.at, soft)
	}
	if s.direct != 0 {
		if c := img.target(s.direct); c.ok {
			to(c, false)
		} else {
			w.unresolved(i, s.at, "a call to where no code is")
		}
		return
	}
	switch val := s.value; val.kind {
	case isAddr:
		for _, a := range val.addrs() {
			if c := img.target(a); a != 0 && c.ok {
				to(c, val.soft)
			}
		}
		if a, ok := val.constant(); ok && a == 0 {
			w.unresolved(i, s.at, "a null pointer when the program starts")
		}
	case isTLS:
		// It reads what the loader noted; the first use may allocate.
	case isImport:
		to(img.calleeOf(val), false)
	case isTable:
		all := img.table(val.a[0])
		for _, a := range all {
			if c := img.target(a); c.ok {
				to(c, true)
			}
		}
		if len(all) == 0 {
			w.unresolved(i, s.at, img.describe(val))
		}
	case isParam:
		if val.a[0] < uint64(len(v.args)) {
			if c := img.target(v.args[val.a[0]]); c.ok {
				to(c, false)
				return
			}
		}
		w.unresolved(i, s.at, img.describe(val))
	default:
		w.unresolved(i, s.at, img.describe(val))
	}
}

// maxUnresolved bounds what is said of one handler.
const maxUnresolved = 50

func (w *walker) unresolved(i int, at uint64, what string) {
	if len(w.out.Unresolved) < maxUnresolved {
		w.out.Unresolved = append(w.out.Unresolved, Unresolved{What: what, Path: w.path(i, at)})
	}
}

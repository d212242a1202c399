package inspect

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"forkproof/internal/cpython"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/procmem"
	"forkproof/internal/pylock"
	"forkproof/internal/unwind"
)

// python is what was read of a process's Python interpreter.
type python struct {
	looked  bool
	rt      *cpython.Runtime
	err     error
	threads []cpython.Thread
	read    bool
	heap    *pylock.Heap
	names   map[uint64]string
	gil     [2]*cpython.GIL
}

// interpreter returns the Python runtime of the process, nil where it has none
// or one that cannot be read.
func (p *process) interpreter() *cpython.Runtime {
	if p.python.looked || p.load() != nil {
		return p.python.rt
	}
	p.python.looked = true
	var objects []cpython.Object
	seen := make(map[uint64]bool)
	for _, m := range p.maps {
		if !m.File() || seen[m.Inode] || !holdsPython(m.Name()) {
			continue
		}
		seen[m.Inode] = true
		if mod, ok := p.module(m.Start); ok {
			objects = append(objects, cpython.Object{Path: m.Path, Bias: mod.Bias, Image: image{mod}})
		}
	}
	if len(objects) == 0 {
		return nil
	}
	p.python.rt, p.python.err = cpython.Find(procmem.Open(p.pid), objects)
	if errors.Is(p.python.err, cpython.ErrNoPython) {
		p.python.err = nil
	}
	return p.python.rt
}

// holdsPython reports whether a file of this name may hold a Python runtime.
func holdsPython(name string) bool {
	return strings.HasPrefix(name, "python") || strings.HasPrefix(name, "libpython") || strings.HasPrefix(name, "uwsgi")
}

// image adapts a module to what cpython.Find asks for.
type image struct{ m *unwind.Module }

func (i image) Symbol(name string) (addr, size uint64, ok bool) {
	s, ok := i.m.Table.ByName(name)
	return s.Value, s.Size, ok
}

func (i image) Section(name string) (addr, size uint64, ok bool) { return i.m.File.Section(name) }

func (p *process) readGIL() *cpython.GIL {
	rt := p.interpreter()
	if rt == nil {
		return nil
	}
	g, err := rt.GIL()
	if err != nil {
		return nil
	}
	return &g
}

// covers reports whether a futex word is one of the GIL's.
func covers(g *cpython.GIL, addr uint64) bool { return g.Addr != 0 && addr-g.Addr < g.Size }

// pyThreads returns the interpreter's threads.
func (p *process) pyThreads() []cpython.Thread {
	rt := p.interpreter()
	if rt == nil || p.python.read {
		return p.python.threads
	}
	p.python.read = true
	p.python.threads, p.python.err = rt.Threads()
	return p.python.threads
}

// pyThread returns the interpreter's state for a kernel thread: by thread
// pointer, which survives a fork, else by the noted id.
func (p *process) pyThread(tid int) (cpython.Thread, bool) {
	all := p.pyThreads()
	if len(all) == 0 {
		return cpython.Thread{}, false
	}
	var is func(cpython.Thread) bool
	if tp := p.pointer(tid); tp != 0 {
		is = func(t cpython.Thread) bool { return t.Ident == tp }
	} else {
		inner := uint64(p.looks[1][tid].status.InnerPID())
		is = func(t cpython.Thread) bool { return t.NativeID == inner && inner != 0 }
	}
	// A thread may have a state in several interpreters: the one with frames is
	// where it runs.
	var found cpython.Thread
	ok := false
	for _, t := range all {
		if is(t) && (!ok || len(found.Frames) == 0) {
			found, ok = t, true
		}
	}
	return found, ok
}

// lockKey tells the copies of one Python lock in the workers of one master: they
// have one address, and one name.
type lockKey struct {
	from   int
	object uint64
	kind   pylock.Kind
}

// lockNames are the names of Python's locks that were found in one run.
type lockNames struct {
	mu sync.Mutex
	// known holds the names; that of no object says that a copy of this process
	// was searched before.
	known map[lockKey]string
}

// first reports whether no copy of the process that was forked from this one has
// been searched yet, and notes that one is.
func (n *lockNames) first(from int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := lockKey{from: from}
	was := n.known[key]
	n.known[key] = "searched"
	return was == ""
}

// settle returns the name of a lock, where name is empty the one that a copy of it
// was found to have.
func (n *lockNames) settle(key lockKey, name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name == "" {
		name = n.known[key]
	}
	n.known[key] = name
	return name
}

// firstSearch bounds the search for a lock's name in the first of several
// workers. It may take long on a busy machine; the others get the name from it.
const firstSearch = 200 * time.Millisecond

// objects returns the interpreter's objects, nil where they cannot be read.
func (p *process) objects() *pylock.Heap {
	rt := p.interpreter()
	if rt == nil || p.python.heap != nil {
		return p.python.heap
	}
	// A release that is not known has locks without names, and that is all.
	limits := pylock.Limits{}
	// What is read ahead is the only one, and it is not known yet whose copy it is.
	if p.early || p.j.named.first(p.from) {
		limits.Time = firstSearch
	}
	p.python.heap, _ = pylock.Open(procmem.Open(p.pid), rt, limits)
	return p.python.heap
}

// name is what a thread is called: by Python where that has a name of its own
// for it, since until 3.13 the kernel's is that of the program.
func (p *process) name(tid int) string {
	name := p.looks[1][tid].status.Name
	tp := p.pointer(tid)
	if tp == 0 || p.interpreter() == nil {
		return name
	}
	if p.python.names == nil {
		p.python.names = make(map[uint64]string)
		if h := p.objects(); h != nil {
			p.python.names = h.ThreadNames()
		}
	}
	if s := p.python.names[tp]; s != "" {
		return s
	}
	return name
}

// pythonWait turns what a thread of the interpreter waits for, which to the C
// library is a semaphore, into the Python lock that it stands for.
func (p *process) pythonWait(tid int, f libc.Futex, w *wait) {
	py, ok := p.pyThread(tid)
	if !ok || !interpreterCalls(p.callers(tid)) {
		return
	}
	names := p.functions(tid)
	w.Kind = "python-lock"
	var lock *pylock.Lock
	if h := p.objects(); h != nil {
		l, err := h.Identify(pylock.Waiter{Futex: f.Addr, SP: p.looks[1][tid].call.SP, Frames: py.Frames})
		if err == nil || l.Kind != "" {
			lock = &l
		}
	}
	purpose, what := pylock.WaitKind(py.Frames, pylock.Clues{Lock: lock, Native: names})
	switch purpose {
	case pylock.Acquire:
		w.wanted = true
		w.Exclusive, w.State = p.exclusive(lock, py), "held, wanted by "+at(py)
	case pylock.ForEvent, pylock.Join:
		w.Exclusive, w.State = false, "waits for "+what
	default:
		w.Exclusive, w.State = false, "not free"
	}
	if lock == nil {
		return
	}
	w.Kind, w.Addr, w.name = string(lock.Kind), lock.Word, lock.Name.String()
	w.object = lock.Object
	if lock.OwnerKnown {
		w.ownerPointer = lock.Owner
	}
	if t := lock.Name.Type; t != "" && lock.Name.Path != "" {
		w.name += " (in a " + t + ")"
	}
	if lock.Kind == pylock.KindInternal {
		w.name = "a mutex of the interpreter's own"
	}
	if key := (lockKey{p.from, lock.Object, lock.Kind}); p.from != 0 && lock.Object != 0 {
		w.name = p.j.named.settle(key, w.name)
	}
}

// exclusive reports whether a thread that wants a Python lock can go on only when
// the lock's holder lets go. A plain lock may as well be a signal that one
// function of the program waits for by lock.acquire() and another, such as one
// that handles a signal of the kernel, gives by lock.release(). A with statement
// tells them apart: here, or in the thread of the master that has the lock now.
func (p *process) exclusive(l *pylock.Lock, py cpython.Thread) bool {
	switch {
	case l == nil:
		return false
	case l.Kind != pylock.KindLock || p.objects().Entering(py.Frames, l.Object):
		return true
	}
	m, ok := p.parent()
	if !ok {
		return false
	}
	owner, _, _ := p.j.suspects(p, m, l.Object)
	return owner != nil
}

// at says where a Python thread is, in a word or two.
func at(t cpython.Thread) string {
	if len(t.Frames) == 0 {
		return "no Python code"
	}
	f := t.Frames[0]
	return fmt.Sprintf("%s at %s:%d", f.Function, f.File, f.Line)
}

// interpreterCalls reports whether the function that sleeps was called by the
// interpreter itself and not by a library it loaded.
func interpreterCalls(callers []libc.Caller) bool {
	for _, c := range callers {
		if libc.Named(c.Object) != "" || libc.Loader(c.Object) {
			continue
		}
		return holdsPython(filepath.Base(c.Object))
	}
	return false
}

// pythonFrames returns the Python frames of a thread and the native frames that
// run them.
func (p *process) pythonFrames(tid int) []finding.PythonFrame {
	py, ok := p.pyThread(tid)
	if !ok {
		return nil
	}
	eval, _ := cpython.Match(p.functions(tid), py.Frames, py.Truncated)
	var out []finding.PythonFrame
	for i, f := range py.Frames {
		out = append(out, finding.PythonFrame{Function: f.Function, File: f.File, Line: f.Line, Native: eval[i]})
	}
	return out
}

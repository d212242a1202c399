package provoke

import (
	"fmt"
	"path/filepath"
	"strings"

	"forkproof/internal/cpython"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
	"forkproof/internal/pylock"
	"forkproof/internal/symbol"
	"forkproof/internal/unwind"
)

// class is one lock of the report: a lock with a name, or all locks of the heap
// that are taken at one place, which the same program has again under other
// addresses in each run.
type class struct {
	// id is the same in each run, and in each build of the program as far as its
	// functions keep their names: schedules are kept by it.
	id   string
	kind kind
	// name is for people.
	name string
	// mended: fork makes it anew in the child.
	mended bool
	// own is set for a lock of the C library that is taken inside of functions, and
	// words are where it may lie: malloc has one for each arena.
	own *own
	// takers are the threads other than forking ones that were seen to take it, by
	// thread id; taken is how often.
	takers map[int]string
	taken  int
	// sure: a thread was seen to hold it.
	sure bool
	// native and python are where it was first taken.
	native []finding.NativeFrame
	python []finding.PythonFrame
	// order is in which order the classes were found.
	order int
}

// lock is the place and the sort of one lock in memory.
type lock struct {
	kind kind
	// rw: a lock of the C library's own that is a read-write lock.
	rw   bool
	addr uint64
}

// state is a lock at one moment.
type state struct {
	held bool
	// owner is the thread id that the lock records, as the process's own namespace
	// counts it, and pointer the thread pointer; 0 where it records none.
	owner   int
	pointer uint64
}

// read reads a lock's state.
func (l lock) read(mem procmem.Reader, family string) (state, error) {
	switch {
	case l.kind == kindPython:
		b, err := procmem.Bytes(mem, l.addr, 1, 1)
		return state{held: err == nil && b[0]&1 != 0}, err
	case l.kind == kindSemaphore:
		// The value is the lower half of the first word in glibc (2.21 and later) and
		// the first word in musl, where a negative one says that somebody waits.
		v, err := procmem.Uint32(mem, l.addr)
		return state{held: err == nil && int32(v) <= 0}, err
	case l.kind == kindMutex && family == "musl":
		v, err := procmem.Uint32(mem, l.addr+4)
		s := state{held: err == nil && v&^(1<<31) != 0}
		if tid := int(v & (1<<30 - 1)); tid != 16 { // EBUSY: a normal mutex, which records nobody
			s.owner = tid
		}
		return s, err
	case l.kind == kindMutex:
		b, err := procmem.Bytes(mem, l.addr, libc.MutexSize, libc.MutexSize)
		if err != nil {
			return state{}, err
		}
		m := libc.DecodeMutex(b)
		return state{held: m.Lock != 0, owner: m.OwnerTID()}, nil
	case l.kind == kindRWLock && family != "musl":
		b, err := procmem.Bytes(mem, l.addr, libc.RWLockSize, libc.RWLockSize)
		if err != nil {
			return state{}, err
		}
		r := libc.DecodeRWLock(b)
		return state{held: r.Readers&^phase != 0, owner: int(r.Writer)}, nil
	case l.kind == kindStream:
		return l.stream(mem, family)
	}
	v, err := procmem.Uint32(mem, l.addr)
	if l.rw {
		v &^= phase
	}
	return state{held: err == nil && v != 0}, err
}

// phase is the bit in the first word of glibc's read-write locks that says whose
// turn it is, and is left behind by a writer (nptl/pthread_rwlock_common.c,
// PTHREAD_RWLOCK_WRPHASE). The others count readers and mark a writer.
const phase = 1

// muslFileLock is where a FILE of musl has its lock (src/internal/stdio_impl.h).
const muslFileLock = 140

// stream reads the lock of the FILE at addr.
func (l lock) stream(mem procmem.Reader, family string) (state, error) {
	if family == "musl" {
		v, err := procmem.Uint32(mem, l.addr+muslFileLock)
		owner := int(v &^ (1 << 30))
		return state{held: err == nil && int32(v) > 0, owner: owner}, err
	}
	at, ok := libc.StreamLock(l.addr, mem)
	if !ok {
		return state{}, fmt.Errorf("no stream at 0x%x: %w", l.addr, procmem.ErrUnmapped)
	}
	v, err := procmem.Uint32(mem, at)
	if err != nil {
		return state{}, err
	}
	// _IO_lock_t: lock, cnt, owner (glibc sysdeps/nptl/stdio-lock.h).
	owner, err := procmem.Uint64(mem, at+8)
	return state{held: v != 0, pointer: owner}, err
}

// covers reports whether a futex word is one on which those sleep who wait for the
// lock.
func (l lock) covers(addr uint64, mem procmem.Reader, family string) bool {
	from, size := l.addr, uint64(16)
	switch {
	case l.kind == kindRWLock || l.rw:
		size = libc.RWLockSize
	case l.kind == kindStream && family == "musl":
		from += muslFileLock
	case l.kind == kindStream:
		if at, ok := libc.StreamLock(l.addr, mem); ok {
			from = at
		}
	}
	return addr-from < size
}

// taking is a thread that is about to take a lock.
type taking struct {
	lock
	tid  int
	regs *ptrace.Regs
	// function is the one at whose entry it stands, own the lock of the C library
	// that this takes, if it is one of those.
	function string
	own      *own
	inner    int // the thread's id in its own namespace
}

// identify says which lock it is. Whoever takes the same lock again finds the same
// class; see class.
func (v *view) identify(t taking) *class {
	c := &class{kind: t.kind, takers: make(map[int]string)}
	frames := v.stack(t.regs)
	py, _ := v.python(threadPointer(t.regs), t.inner)
	c.native, c.python = v.describe(frames, py)
	static, isStatic := v.static(t.addr)
	switch {
	case t.own != nil:
		c.own = t.own
		c.name = v.libc.Family + "'s " + libc.LockNamed(t.own.symbol, t.own.file).String()
		c.id = c.name
	case t.addr >= v.gil.Start && t.addr < v.gil.End:
		c.name = fmt.Sprintf("a mutex of Python's interpreter lock (GIL+%d)", t.addr-v.gil.Start)
		c.id = fmt.Sprintf("%s%d", gilID, t.addr-v.gil.Start)
	case len(py.Frames) > 0 && (t.kind == kindPython || t.kind == kindSemaphore && v.byInterpreter(frames)):
		place := pythonPlace(py)
		c.name, c.id = "a Python lock, taken by "+place, "python:"+stable(py)
		if n := v.pythonName(t, py); n.Path != "" {
			c.name, c.id = n.Path, "python:"+n.Path
			if n.Type != "" {
				c.name += " (in a " + n.Type + ")"
			}
		} else if n.Local != "" {
			c.name = fmt.Sprintf("%s in %s", n.Local, n.In)
		}
	case t.kind == kindStream:
		c.name, c.id = v.stream(t.addr, static, isStatic, frames)
	case isStatic:
		c.name, c.id = static, string(t.kind)+":"+static
		for _, symbol := range mended {
			c.mended = c.mended || strings.HasSuffix(static, "("+symbol+")")
		}
	default:
		place := v.place(frames)
		c.name = fmt.Sprintf("a %s on the heap, taken in %s", t.kind, first(place))
		c.id = string(t.kind) + ":heap:" + strings.Join(place, " < ")
		if len(py.Frames) > 0 && interpreterOnly(place) {
			c.id += " < " + stable(py)
		}
	}
	return c
}

// gilID begins the ids of the mutexes of Python's interpreter lock.
const gilID = "python:GIL+"

func first(s []string) string {
	if len(s) == 0 {
		return "code without a name"
	}
	return s[0]
}

// stream names the lock of a FILE: the standard ones by name, others by who uses
// them.
func (v *view) stream(addr uint64, static string, isStatic bool, frames []unwind.Frame) (name, id string) {
	for _, std := range []string{"stdin", "stdout", "stderr"} {
		for _, mod := range v.holders(false) {
			if s, ok := mod.Table.ByName("_IO_2_1_" + std + "_"); ok && s.Value+mod.Bias == addr {
				return "the lock of " + std, "stdio:" + std
			}
			if s, ok := mod.Table.ByName(std); ok {
				if at, err := procmem.Uint64(v.mem, s.Value+mod.Bias); err == nil && at == addr {
					return "the lock of " + std, "stdio:" + std
				}
			}
		}
	}
	if isStatic {
		return "the lock of the stream " + static, "stdio:" + static
	}
	place := v.place(frames)
	return "the lock of a stream used in " + first(place), "stdio:heap:" + strings.Join(place, " < ")
}

// nearest is how many functions tell one place from another.
const nearest = 3

// place is where the program takes a lock: the innermost functions that are not
// the C library's, without offsets, so that another build has the same.
func (v *view) place(frames []unwind.Frame) []string {
	var out []string
	for _, f := range frames {
		if len(out) == nearest {
			break
		}
		if f.Module == nil || f.Module.Object == nil {
			continue
		}
		base := filepath.Base(f.Module.Name)
		if libc.Named(base) != "" || libc.Loader(base) || strings.HasPrefix(base, "libpthread") {
			continue
		}
		if s, ok := f.Module.Symbol(f.Addr()); ok && !s.NoSize {
			out = append(out, base+"`"+symbol.Short(s.Name))
		} else {
			out = append(out, fmt.Sprintf("%s+0x%x", base, f.Addr()-f.Module.Bias))
		}
	}
	return out
}

// byInterpreter reports whether the interpreter itself takes the lock, and not a
// library that it loaded.
func (v *view) byInterpreter(frames []unwind.Frame) bool {
	place := v.place(frames)
	return len(place) > 0 && holdsPython(place[0])
}

// interpreterOnly reports whether a place lies in the Python interpreter alone, so
// that Python's own frames have to tell it from others.
func interpreterOnly(place []string) bool {
	for _, p := range place {
		if !holdsPython(p) {
			return false
		}
	}
	return true
}

// pythonPlace says where a Python thread is, in a word or two.
func pythonPlace(t cpython.Thread) string {
	f := t.Frames[0]
	return fmt.Sprintf("%s at %s:%d", f.Function, filepath.Base(f.File), f.Line)
}

// stable is the innermost functions of a Python thread, without lines.
func stable(t cpython.Thread) string {
	var out []string
	for _, f := range t.Frames[:min(nearest, len(t.Frames))] {
		out = append(out, filepath.Base(f.File)+"`"+f.Function)
	}
	return strings.Join(out, " < ")
}

// pythonName is how the program reaches a Python lock, empty where it was not
// found.
func (v *view) pythonName(t taking, py cpython.Thread) pylock.Name {
	h := v.names()
	if h == nil {
		return pylock.Name{}
	}
	objects := preserved(t.regs)
	if t.kind == kindPython {
		objects = []uint64{t.addr - pyMutexAt}
	}
	for _, o := range objects {
		name, err := v.rt.TypeName(o)
		if err != nil || name != "_thread.lock" && name != "_thread.RLock" {
			continue
		}
		if at, err := procmem.Uint64(v.mem, o+pyMutexAt); t.kind != kindPython && (err != nil || at != t.addr) {
			continue
		}
		if n, ok := h.Name(o); ok {
			return n
		}
	}
	l, err := h.Identify(pylock.Waiter{Futex: t.addr, SP: stackPointer(t.regs), Frames: py.Frames})
	if err != nil {
		return pylock.Name{}
	}
	return l.Name
}

// pyMutexAt is where an object of _thread.lock or RLock has its semaphore's
// address, or its mutex of one byte (CPython Modules/_threadmodule.c, 3.8 to 3.14).
const pyMutexAt = 16

// maxArenas bounds the list of malloc's arenas.
const maxArenas = 256

// words are where a lock of the C library lies in the process, several for malloc,
// which has one for each arena; none where this build is not known.
func (v *view) words(o *own) []lock {
	for _, mod := range v.holders(false) {
		at, size, ok := libc.LockAt(mod.File.BuildID(), o.symbol, o.file)
		if !ok {
			for _, s := range mod.Table.AllByName(o.symbol) {
				if o.file == "" || s.File == o.file {
					at, size, ok = s.Value, s.Size, true
				}
			}
		}
		if !ok {
			continue
		}
		out := []lock{{kind: kindLibc, addr: at + mod.Bias, rw: size == libc.RWLockSize}}
		if o.symbol != "main_arena" || size < 64 {
			return out
		}
		// Every arena begins with its lock; the list is a ring. The last five words
		// of struct malloc_state are next, next_free, attached_threads, system_mem
		// and max_system_mem (glibc malloc/malloc.c, 2.26 and later).
		for a := out[0].addr; len(out) < maxArenas; {
			next, err := procmem.Uint64(v.mem, a+size-40)
			if err != nil || next == 0 || next == out[0].addr {
				break
			}
			out = append(out, lock{kind: kindLibc, addr: next})
			a = next
		}
		return out
	}
	return nil
}

// addresses are where a function begins: in each library that has one of its name.
func (v *view) addresses(name string) []uint64 {
	var out []uint64
	for _, mod := range v.holders(false) {
		if s, ok := mod.Table.ByName(name); ok && s.Kind == symbol.Func && !s.IFunc && s.Value != 0 {
			out = append(out, s.Value+mod.Bias)
		}
	}
	return out
}

package pylock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"forkproof/internal/cpython"
)

// ErrNoLock says that the futex is that of no Python lock that could be found.
var ErrNoLock = errors.New("no Python lock found at this futex")

// Waiter is a thread that sleeps in futex(2).
type Waiter struct {
	Futex uint64 // the address of the futex word
	// SP is the thread's stack pointer as /proc/PID/task/TID/syscall has it; 0
	// where it is not known.
	SP uint64
	// Frames are the thread's Python frames, the innermost first.
	Frames []cpython.Frame
}

// Bounds on the search for the object that a sleeping thread waits for.
const (
	// Between sem_wait and the C function that was given the lock there are three
	// or four frames, of a few hundred bytes.
	stackScan = 4096
	// A wait entry lies in the frame of _PyParkingLot_Park, near the stack pointer.
	maxPark     = 16 << 10
	nearFrames  = 4
	maxFrames   = 64 // frames searched for a local name
	frameAttrs  = 2
	mutexLocked = 1 // of a PyMutex
)

// Identify finds the lock that a thread waits for, and its names. It returns
// ErrNoLock where the futex is no Python lock's, or that lock is in no object
// that can be reached: then the state of what was found of it may be in Lock
// all the same, with Kind KindInternal.
func (h *Heap) Identify(w Waiter) (Lock, error) {
	word := w.Futex
	if h.lay.parking {
		if key, arg, ok := h.parked(w); ok {
			return h.identifyParked(w, key, arg)
		}
	}
	l, ok := h.byFrames(w, word)
	if !ok {
		l, ok = h.byStack(w, word)
	}
	if !ok {
		l, ok = h.importLock(word)
	}
	if !ok {
		l, ok = h.byGraph(word)
	}
	if !ok {
		return Lock{}, fmt.Errorf("futex 0x%x of a thread in CPython 3.%d: %w", w.Futex, h.lay.minor, ErrNoLock)
	}
	h.name(&l, w)
	return l, nil
}

// parked reads the wait entry of a thread in the parking lot. It begins two
// words before the semaphore on which the thread sleeps, and is a member of a
// ring of such entries and the bucket's head, which is what makes it certain
// (struct wait_entry in Python/parking_lot.c of 3.13 and 3.14).
func (h *Heap) parked(w Waiter) (key, arg uint64, ok bool) {
	if w.SP != 0 && (w.Futex < w.SP || w.Futex-w.SP > maxPark) {
		return 0, 0, false
	}
	var b [-waitArg + waitNode + 16]byte
	if !aligned(w.Futex) || !h.read(b[:], w.Futex-16) {
		return 0, 0, false
	}
	arg, key = u64(b[:], 0), u64(b[:], 8)
	self := w.Futex + waitNode
	next, prev := u64(b[:], 16+waitNode), u64(b[:], 24+waitNode)
	if !aligned(next) || !aligned(prev) || !plausible(key) {
		return 0, 0, false
	}
	// llist_node is next, prev (Include/internal/pycore_llist.h).
	back, ok1 := h.word(next + 8)
	forth, ok2 := h.word(prev)
	return key, arg, ok1 && ok2 && back == self && forth == self
}

// identifyParked says what is at the address that a thread is parked at.
func (h *Heap) identifyParked(w Waiter, key, arg uint64) (Lock, error) {
	if l, ok := h.lockAt(key-lockWord, key); ok {
		h.name(&l, w)
		return l, nil
	}
	if arg == 0 {
		// Only those who wait for a PyMutex or a SimpleQueue give an argument; the
		// rest are PyEvent, _PyOnceFlag and _PyRWMutex, of which only the first is
		// waited for without end: the end of a thread.
		return Lock{Kind: KindEvent, Word: key}, nil
	}
	l, ok := h.byFrames(w, key)
	if !ok {
		l, ok = h.byStack(w, key)
	}
	if !ok {
		l, ok = h.importLock(key)
	}
	if !ok {
		l, ok = h.byGraph(key)
	}
	if ok {
		h.name(&l, w)
		return l, nil
	}
	l = Lock{Kind: KindInternal, Word: key}
	b := h.buf[:1]
	if !h.read(b, key) {
		return l, fmt.Errorf("read the lock at 0x%x that a thread is parked at: %w", key, ErrNoLock)
	}
	l.Locked = b[0]&mutexLocked != 0
	return l, nil
}

// lockAt reads the object at addr as a lock. Where word is not 0, ok is only
// true if that is the address of its lock word.
func (h *Heap) lockAt(addr, word uint64) (Lock, bool) {
	ti := h.objectType(addr)
	if ti == nil {
		return Lock{}, false
	}
	l := Lock{Object: addr, Type: ti.name}
	off := uint64(lockWord)
	switch ti.class {
	case classLock:
		l.Kind = KindLock
	case classRLock:
		l.Kind = KindRLock
	case classBuffered:
		l.Kind, off = KindBuffered, bufferedLock
	case classQueue:
		l.Kind = KindQueue
	default:
		return Lock{}, false
	}
	inline := ti.inline(h.lay.parking)
	l.Word = addr + off
	if !inline {
		var ok bool
		if l.Word, ok = h.word(addr + off); !ok || !plausible(l.Word) {
			return Lock{}, false
		}
	}
	if word != 0 && l.Word != word {
		return Lock{}, false
	}
	return l, h.state(&l, inline)
}

// inline reports whether objects of a type have a PyMutex of one byte in place
// of a pointer to a sem_t. The release does not tell: Debian's 3.13.5 has it in
// _thread.lock, which 3.13.0 has not, and 3.14.8 has it in RLock too. The size
// does: a sem_t's lock has a pointer, the list of weak references and a flag, an
// RLock of 3.14 no such list (Modules/_threadmodule.c).
func (ti *typeInfo) inline(parking bool) bool {
	switch ti.class {
	case classLock:
		return parking && ti.basicSize == lockInline
	case classRLock:
		return parking && ti.basicSize == rlockInline
	case classQueue:
		return parking
	}
	return false
}

// state reads whether a lock is held, and by whom.
func (h *Heap) state(l *Lock, inline bool) bool {
	if l.Kind == KindQueue {
		return true
	}
	if inline {
		b := h.buf[:1]
		if !h.read(b, l.Word) {
			return false
		}
		l.Locked = b[0]&mutexLocked != 0
	} else {
		// glibc has the value in the low half of a word and the waiters in the
		// high one, musl has it in bits 0 to 30 of the first int, with a flag of
		// waiters above.
		b := h.buf[:4]
		if !h.read(b, l.Word) {
			return false
		}
		v := binary.LittleEndian.Uint32(b) &^ (1 << 31)
		if v > 1 {
			return false // a lock is never released twice
		}
		l.Locked = v == 0
	}
	var owner, count uint64
	var ok1, ok2 bool
	switch l.Kind {
	case KindRLock:
		owner, ok1 = h.word(l.Object + rlockOwner)
		count, ok2 = h.word(l.Object + rlockCount)
		if inline {
			count++ // level counts from 0
		}
		if !ok1 || !ok2 {
			return false
		}
		l.OwnerKnown = l.Locked && owner != 0 && count > 0
	case KindBuffered:
		if owner, ok1 = h.word(l.Object + bufferedOwner); !ok1 {
			return false
		}
		l.OwnerKnown = l.Locked && owner != 0
	}
	if l.OwnerKnown {
		l.Owner = owner
	}
	return true
}

// byFrames looks for the object among what the innermost Python functions work
// with: `with self.lock` has it on its stack of values.
func (h *Heap) byFrames(w Waiter, word uint64) (Lock, bool) {
	for _, f := range w.Frames[:min(len(w.Frames), nearFrames)] {
		for _, s := range h.locals(f) {
			if l, ok := h.lockAt(s.value, word); ok {
				return l, true
			}
			ti := h.objectType(s.value)
			if ti == nil || s.name == 0 {
				continue
			}
			if l, ok := h.lockIn(s.value, ti, word); ok {
				return l, true
			}
		}
	}
	return Lock{}, false
}

// lockIn looks for the lock among the attributes of an object.
func (h *Heap) lockIn(in uint64, ti *typeInfo, word uint64) (l Lock, ok bool) {
	switch ti.class {
	case classText:
		if b, good := h.word(in + textBuffer); good {
			return h.lockAt(b, word)
		}
	case classInstance:
		n := 0
		h.attributes(in, ti, func(_, value uint64) bool {
			if l, ok = h.lockAt(value, word); ok {
				return false
			}
			if t := h.objectType(value); t != nil && t.class == classText {
				if l, ok = h.lockIn(value, t, word); ok {
					return false
				}
			}
			n++
			return n < 200
		})
	}
	return l, ok
}

// byStack looks for a pointer to the object on the C stack: the function that
// waits was called with it.
func (h *Heap) byStack(w Waiter, word uint64) (Lock, bool) {
	if w.SP == 0 {
		return Lock{}, false
	}
	seen := make(map[uint64]struct{})
	b := make([]byte, stackScan)
	at := w.SP &^ 7
	for len(b) > 0 && !h.read(b, at) {
		b = b[:len(b)/2&^7] // near the end of the stack
	}
	for i := 0; i+8 <= len(b); i += 8 {
		p := u64(b, i)
		if !aligned(p) || p >= at && p-at < maxPark {
			continue
		}
		if _, ok := seen[p]; ok {
			continue
		}
		seen[p] = struct{}{}
		if l, ok := h.lockAt(p, word); ok {
			return l, true
		}
	}
	return Lock{}, false
}

// byGraph looks at all objects that can be reached.
func (h *Heap) byGraph(word uint64) (found Lock, ok bool) {
	next := 0
	match := func() bool {
		for ; !ok && next < len(h.graph.locks); next++ {
			found, ok = h.lockAt(h.graph.nodes[h.graph.locks[next]].object, word)
		}
		return ok
	}
	for !match() && h.grow(match) {
	}
	return found, ok
}

// name fills in the names of a lock, and turns the inner lock of a module that
// is being imported into what it stands for.
func (h *Heap) name(l *Lock, w Waiter) {
	if l.Object == 0 {
		return
	}
	if m, ok := h.moduleLock(w); ok && (l.Kind == KindLock || l.Kind == KindRLock) {
		m.Word, m.Locked = l.Word, l.Locked || m.OwnerKnown
		*l = m
		return
	}
	if n, ok := h.Name(l.Object); ok {
		l.Name = n
	}
	for _, f := range w.Frames[:min(len(w.Frames), maxFrames)] {
		if n, ok := h.localName(f, l.Object); ok {
			l.Name.Local, l.Name.In, l.Name.Object = n.Local, n.In, n.Object
			if l.Name.Path == "" {
				l.Name.Type = n.Type
			}
			return
		}
	}
}

// moduleLock finds the _ModuleLock that a thread is acquiring: its innermost
// frame is _ModuleLock.acquire, and self is the lock.
func (h *Heap) moduleLock(w Waiter) (Lock, bool) {
	if len(w.Frames) == 0 {
		return Lock{}, false
	}
	f := w.Frames[0]
	if !strings.Contains(f.File, "importlib._bootstrap") || !strings.HasSuffix(f.Function, "acquire") {
		return Lock{}, false
	}
	for _, s := range h.locals(f) {
		if s.name == 0 {
			continue
		}
		if name, _ := h.str(s.name); name == "self" {
			return h.moduleLockAt(s.value)
		}
	}
	return Lock{}, false
}

// moduleLockAt reads a _ModuleLock (Lib/importlib/_bootstrap.py).
func (h *Heap) moduleLockAt(addr uint64) (Lock, bool) {
	ti := h.objectType(addr)
	if ti == nil || ti.name != "_ModuleLock" {
		return Lock{}, false
	}
	l := Lock{Kind: KindImport, Object: addr, Type: "importlib._bootstrap._ModuleLock"}
	if v, ok := h.attribute(addr, "owner"); ok {
		if owner, ok := h.long(v); ok {
			l.Owner, l.OwnerKnown, l.Locked = owner, true, true
		}
	}
	name := "?"
	if v, ok := h.attribute(addr, "name"); ok {
		if s, ok := h.str(v); ok {
			name = s
		}
	}
	l.Name = Name{Path: "import of '" + name + "'", Object: addr}
	for _, a := range []string{"wakeup", "lock"} {
		if v, ok := h.attribute(addr, a); ok && l.Word == 0 {
			if inner, ok := h.lockAt(v, 0); ok {
				l.Word = inner.Word
			}
		}
	}
	return l, true
}

// imports finds interp->imports: it begins with sys.modules. The struct is
// there from 3.12; before that the import lock is a static variable.
func (h *Heap) imports() (uint64, bool) {
	if h.lay.minor < 12 || h.start.Interp == 0 || h.start.Modules == 0 {
		return 0, false
	}
	b := make([]byte, 4096)
	for off := uint64(0); off < maxInterpState; off += uint64(len(b)) {
		if !h.read(b, h.start.Interp+off) {
			return 0, false
		}
		for i := 0; i < len(b); i += 8 {
			if u64(b, i) == h.start.Modules {
				return h.start.Interp + off + uint64(i), true
			}
		}
	}
	return 0, false
}

// importLock reads the interpreter's import lock. Where word is not 0, ok is
// only true if that is its word.
func (h *Heap) importLock(word uint64) (Lock, bool) {
	at, ok := h.imports()
	if !ok {
		return Lock{}, false
	}
	l := Lock{Kind: KindImport, Word: at + importsLock, Name: Name{Path: "the interpreter's import lock"}}
	if h.lay.parking {
		b := h.buf[:1]
		if !h.read(b, l.Word) {
			return Lock{}, false
		}
		l.Locked = b[0]&mutexLocked != 0
	} else {
		// 3.12: a pointer to the sem_t; the owner is ~0 while it is free.
		if l.Word, ok = h.word(l.Word); !ok || !plausible(l.Word) {
			return Lock{}, false
		}
		b := h.buf[:4]
		if !h.read(b, l.Word) {
			return Lock{}, false
		}
		l.Locked = binary.LittleEndian.Uint32(b)&^(1<<31) == 0
	}
	if word != 0 && word != l.Word {
		return Lock{}, false
	}
	owner, ok := h.word(at + importsOwner)
	if ok && l.Locked && owner != 0 && owner != ^uint64(0) {
		l.Owner, l.OwnerKnown = owner, true
	}
	return l, true
}

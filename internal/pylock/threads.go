package pylock

import "forkproof/internal/cpython"

// maxNamed bounds how many threads are named.
const maxNamed = 4096

// ThreadNames returns the names that the module threading has for the threads
// of the interpreter, by ident: threading._active, in which a fork leaves the
// survivor alone. It is empty where the program does not use that module.
func (h *Heap) ThreadNames() map[uint64]string {
	names := make(map[uint64]string)
	h.dict(h.start.Modules, func(key, value uint64) bool {
		if s, ok := h.str(key); !ok || s != "threading" {
			return true
		}
		if globals, ok := h.word(value + moduleDict); ok {
			if active, ok := h.lookup(globals, "_active"); ok {
				h.dict(active, func(key, thread uint64) bool {
					ident, ok := h.long(key)
					if !ok {
						return true
					}
					if at, ok := h.attribute(thread, "_name"); ok {
						if s, ok := h.str(at); ok {
							names[ident] = s
						}
					}
					return len(names) < maxNamed
				})
			}
		}
		return false
	})
	return names
}

// Locked reports whether the object at addr is a lock that is held.
func (h *Heap) Locked(addr uint64) bool {
	l, ok := h.lockAt(addr, 0)
	return ok && l.Locked
}

// builtinMethod is m_ml and builtinSelf m_self of a PyCFunctionObject,
// methodSelf im_self of a PyMethodObject, descriptorName d_name of a
// PyMethodDescrObject (Include/cpython/methodobject.h, classobject.h,
// descrobject.h). A PyMethodDef begins with its name.
const (
	builtinMethod  = 16
	builtinSelf    = 24
	methodSelf     = 24
	descriptorName = 24
)

// Entering reports whether the innermost function is on its way into `with
// lock` for the lock at object, as opposed to a call of lock.acquire(), be it by
// a function written in C that got the lock. Only such a call is how a program
// waits for a signal that another of its functions gives by lock.release(), be it
// one that handles a signal of the kernel.
//
// While the lock is awaited the frame's stack holds the lock's own __exit__ (until
// 3.11 and from 3.14 on, there with the lock behind it), or the lock itself, of
// which an instruction for just that (3.12 and 3.13) tells what it is there for.
// Condition.__enter__ of the module threading calls the lock's own __enter__.
func (h *Heap) Entering(frames []cpython.Frame, object uint64) bool {
	if len(frames) == 0 || object == 0 {
		return false
	}
	by := h.lay.frame.beforeWith
	before := by != 0 && h.executes(frames[0], by)
	entering, unbound := false, false
	for _, s := range h.locals(frames[0]) {
		if s.name != 0 {
			continue
		}
		entering = entering || (before || unbound) && s.value == object
		unbound = false
		switch name := h.cFunction(s.value); name {
		case "acquire", "acquire_lock":
			return false
		case "__exit__", "__enter__":
			if name == "__exit__" && by != 0 {
				continue // of a block that was entered before
			}
			// What is bound has its object in itself, else it comes next.
			unbound = h.objectType(s.value).name == "method_descriptor"
			self, _ := h.word(s.value + builtinSelf)
			entering = entering || !unbound && self == object
		}
	}
	return entering
}

// executes reports whether the frame is at an instruction, from 3.12 on.
func (h *Heap) executes(f cpython.Frame, op byte) bool {
	at, ok := h.word(f.Addr + frameInstr)
	var b [1]byte
	return ok && h.read(b[:], at) && b[0] == op
}

// cFunction is the name of the function written in C at addr, "" for any other
// object.
func (h *Heap) cFunction(addr uint64) string {
	ti := h.objectType(addr)
	if ti == nil {
		return ""
	}
	switch ti.name {
	case "builtin_function_or_method":
		if def, ok := h.word(addr + builtinMethod); ok {
			if at, ok := h.word(def); ok {
				name, _ := h.cstring(at)
				return name
			}
		}
	case "method_descriptor":
		if at, ok := h.word(addr + descriptorName); ok {
			name, _ := h.str(at)
			return name
		}
	}
	return ""
}

// Uses finds the function of a thread, the innermost first, that is inside of
// `with lock` for the lock at object, or for something that has the lock as an
// attribute, a Condition for one: as long as it runs, the frame keeps what leaves
// the block again.
func (h *Heap) Uses(frames []cpython.Frame, object uint64) (cpython.Frame, bool) {
	for _, f := range frames[:min(len(frames), maxFrames)] {
		for _, s := range h.locals(f) {
			if s.name != 0 {
				continue
			}
			ti := h.objectType(s.value)
			if ti == nil {
				continue
			}
			self := s.value
			switch ti.name {
			case "builtin_function_or_method":
				self, _ = h.word(s.value + builtinSelf)
			case "method":
				self, _ = h.word(s.value + methodSelf)
			}
			if self == object {
				return f, true
			}
			if ti.name != "method" {
				continue
			}
			if t := h.objectType(self); t != nil {
				if _, _, ok := h.within(self, t, object, 0); ok {
					return f, true
				}
			}
		}
	}
	return cpython.Frame{}, false
}

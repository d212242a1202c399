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

// builtinSelf is m_self of a PyCFunctionObject, methodSelf im_self of a
// PyMethodObject (Include/cpython/methodobject.h, classobject.h).
const (
	builtinSelf = 24
	methodSelf  = 24
)

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

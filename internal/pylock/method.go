package pylock

// Method is a function in C by which a program takes a lock or gives it back.
type Method struct {
	// Name is the method's: "__enter__".
	Name string
	// Addr is the function's first instruction. Its first argument is the lock's
	// object, of which the lock's word begins WordAt bytes from its start.
	Addr   uint64
	WordAt uint64
	// Takes says that it takes the lock, else it gives it back.
	Takes bool
}

// descrMethod is where a method descriptor (PyMethodDescrObject) has its
// PyMethodDef, and defCode where that has the function.
const descrMethod, defCode = 40, 8

// Methods returns the methods of threading.Lock and RLock where these are mutexes
// within their own object (some of 3.13 and later). There no function with a name
// takes or releases them: compilers merge it with the method. It is empty where the
// locks are semaphores.
func (h *Heap) Methods() []Method {
	if h.graph.phase == phaseModules {
		h.grow(nil)
	}
	m, ok := h.module("_thread")
	if !ok {
		return nil
	}
	var out []Method
	seen := make(map[uint64]bool)
	for _, class := range []struct {
		name string
		size uint64
	}{{"LockType", lockInline}, {"lock", lockInline}, {"RLock", rlockInline}} {
		typ, ok := h.lookup(h.moduleDict(m), class.name)
		if size, sized := h.word(typ + tpBasicSize); !ok || !sized || size != class.size {
			continue
		}
		methods, _ := h.word(typ + tpDict)
		for name, takes := range map[string]bool{"__enter__": true, "acquire": true, "acquire_lock": true, "__exit__": false, "release": false, "release_lock": false} {
			descr, ok := h.lookup(methods, name)
			def, ok2 := h.word(descr + descrMethod)
			code, ok3 := h.word(def + defCode)
			if ok && ok2 && ok3 && !seen[code] {
				seen[code] = true
				out = append(out, Method{Name: name, Addr: code, WordAt: lockWord, Takes: takes})
			}
		}
	}
	return out
}

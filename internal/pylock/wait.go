package pylock

import (
	"path"
	"strings"

	"forkproof/internal/cpython"
)

// Purpose is what a thread waits for, as far as it matters for a proof: a
// thread that waits for mutual exclusion can go on only when the holder of the
// lock lets go; one that waits for an event could also be woken by whoever
// makes the event happen, a signal handler of its own among them.
type Purpose int

// The purposes.
const (
	Unknown Purpose = iota
	Acquire         // a lock, in order to have it
	ForEvent
	Join // the end of a thread
)

// String returns "unknown", "acquire", "event" or "join".
func (p Purpose) String() string {
	switch p {
	case Acquire:
		return "acquire"
	case ForEvent:
		return "event"
	case Join:
		return "join"
	default:
		return "unknown"
	}
}

// Clues are what is known of a wait besides the Python frames.
type Clues struct {
	// Lock is what Identify found, nil for nothing.
	Lock *Lock
	// Native are the names of the native functions on the thread's stack, the
	// innermost first; nil where they are not known.
	Native []string
}

// WaitKind tells for what a thread waits, from its Python frames, the innermost
// first, and what else is known; what is a short description, "Condition.wait
// in queue.Queue.get". It looks at the standard library's own functions by the
// names that 3.8 to 3.14 have for them. Where neither these nor the clues tell,
// it is Unknown: a module written in C may wait for anything.
//
// A plain lock that the program itself uses as a signal (locked by one thread,
// released by another) cannot be told from mutual exclusion and is Acquire.
func WaitKind(frames []cpython.Frame, c Clues) (p Purpose, what string) {
	if c.Lock != nil {
		switch {
		case c.Lock.Kind == KindQueue:
			return ForEvent, "SimpleQueue.get"
		case c.Lock.Kind == KindEvent:
			return Join, "the end of a thread"
		case c.Lock.Kind == KindImport:
			return Acquire, "the import lock"
		case c.Lock.Kind == KindBuffered:
			return Acquire, "the lock of a buffered file"
		case c.Lock.Kind.Exclusive():
			return Acquire, "an RLock"
		}
	}
	native := c.Native
	for i, n := range native {
		if cpython.IsEval(n) {
			// What is further out waits for Python code that runs now.
			native = native[:i]
			break
		}
	}
	for _, n := range native {
		if p, what, ok := byNative(n); ok {
			return p, what
		}
	}
	if len(frames) == 0 {
		return Unknown, ""
	}
	p, what = byFrame(frames)
	if p == Unknown && c.Lock != nil && c.Lock.Kind == KindLock {
		return Acquire, "a Lock in " + frames[0].Function
	}
	for _, n := range native {
		if p == Unknown && lockFunction(n) {
			return Acquire, "a lock in " + frames[0].Function
		}
	}
	return p, what
}

// byNative knows the C functions that wait for something else than the lock
// they are given. Compilers add suffixes to the names.
func byNative(name string) (Purpose, string, bool) {
	switch {
	case strings.HasPrefix(name, "_queue_SimpleQueue_get"), strings.HasPrefix(name, "simplequeue_get"):
		return ForEvent, "SimpleQueue.get", true
	case strings.HasPrefix(name, "ThreadHandle_join"), strings.HasPrefix(name, "PyThreadHandleObject_join"),
		strings.HasPrefix(name, "PyThread_join_thread"):
		return Join, "the end of a thread", true
	case strings.HasPrefix(name, "_enter_buffered_busy"):
		return Acquire, "the lock of a buffered file", true
	case strings.HasPrefix(name, "rlock_acquire"), strings.HasPrefix(name, "_thread_RLock_acquire"):
		return Acquire, "an RLock", true
	case strings.HasPrefix(name, "_PyImport_AcquireLock"):
		return Acquire, "the import lock", true
	}
	return Unknown, "", false
}

// lockFunction reports whether a native function is that of lock.acquire, which
// threading uses for all else too.
func lockFunction(name string) bool {
	return strings.HasPrefix(name, "lock_PyThread_acquire_lock") || strings.HasPrefix(name, "_thread_lock_acquire")
}

// module of the standard library that a frame's code is of, "" for none.
func stdlibModule(file string) string {
	switch {
	case strings.HasPrefix(file, "<frozen importlib._bootstrap"):
		return "importlib"
	case strings.HasPrefix(file, "<frozen "):
		return strings.TrimSuffix(strings.TrimPrefix(file, "<frozen "), ">")
	}
	dir, base := path.Split(file)
	dir = strings.TrimSuffix(dir, "/")
	name := strings.TrimSuffix(base, path.Ext(base))
	for range 2 {
		last := path.Base(dir)
		if strings.HasPrefix(last, "python3") { // python3.11, python312.zip
			return name
		}
		name = last + "." + name
		dir = path.Dir(dir)
	}
	if p := strings.TrimPrefix(name, "."); strings.HasPrefix(path.Base(dir), "python3") {
		return p
	}
	return ""
}

// last is the part of a function's name after its class: until 3.10 frames
// have only that.
func last(function string) string { return function[strings.LastIndexByte(function, '.')+1:] }

// byFrame judges by the innermost Python function.
func byFrame(frames []cpython.Frame) (Purpose, string) {
	in := frames[0]
	name := last(in.Function)
	switch stdlibModule(in.File) {
	case "threading":
		switch name {
		case "wait":
			return ForEvent, "Condition.wait" + caller(frames[1:])
		case "join", "_wait_for_tstate_lock", "_shutdown":
			return Join, "Thread.join" + caller(frames[1:])
		case "__enter__":
			return Acquire, "with a lock" + caller(frames[1:])
		default:
			// What is left takes the module's own locks, and Condition or _RLock
			// written in Python the one they were made with.
			return Acquire, "a lock in threading." + in.Function
		}
	case "queue":
		return Acquire, "the lock of a queue in " + in.Function
	case "logging", "logging.__init__", "logging.handlers":
		return Acquire, "a lock in logging." + in.Function
	case "importlib", "importlib._bootstrap", "imp":
		return Acquire, "the import lock"
	case "concurrent.futures._base", "concurrent.futures.thread":
		if name == "_worker" {
			return ForEvent, "SimpleQueue.get" // it is C, and has no frame
		}
		return Acquire, "a lock in concurrent.futures, " + in.Function
	}
	return Unknown, ""
}

// caller says which of the library's own functions waits in turn.
func caller(frames []cpython.Frame) string {
	for _, f := range frames {
		m := stdlibModule(f.File)
		if m == "" {
			break
		}
		name := last(f.Function)
		if m == "threading" && (name == "wait_for" || name == "__enter__" || name == "_wait_for_tstate_lock") {
			continue
		}
		return " in " + m + "." + f.Function
	}
	return ""
}

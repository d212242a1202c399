package pystack

import (
	"path"
	"strings"
)

// WaitKind tells what a Python thread that sleeps in a lock waits for.
type WaitKind int

// Kinds of waits.
const (
	// Unknown: no Python frame says.
	Unknown WaitKind = iota
	// Acquire: it wants a lock that excludes others; only its holder ends that.
	Acquire
	// Event: it waits for something to happen, which a signal handler could
	// legitimately bring about.
	Event
)

// events are functions of the standard library whose innermost frame sleeps
// until something happens; names as co_qualname or co_name has them.
var events = map[string][]string{
	"threading.py": {"wait", "wait_for", "_wait_for_tstate_lock", "join", "_join_os_thread"},
	"queue.py":     {"get", "join"},
	"_base.py":     {"result", "wait"},
	"popen_fork.py": {
		"wait", "poll"},
	"connection.py": {"wait", "poll"},
}

// WaitsFor judges by the innermost Python frame what a thread waits for that
// sleeps in a Python lock. SimpleQueue.get has no frame of its own: the caller
// passes the names of the native functions.
func WaitsFor(frames []Frame, native []string) WaitKind {
	for _, n := range native {
		if strings.Contains(n, "SimpleQueue") || strings.Contains(n, "simplequeue") || strings.Contains(n, "ThreadHandle") {
			return Event
		}
	}
	if len(frames) == 0 {
		return Unknown
	}
	f := frames[0]
	name := f.Function[strings.LastIndexByte(f.Function, '.')+1:]
	for _, e := range events[path.Base(f.File)] {
		if name == e {
			// queue.get takes the queue's mutex by `with self.not_empty`, and
			// waits through Condition.wait in threading.py: a get that is
			// innermost itself wants the mutex.
			if path.Base(f.File) == "queue.py" {
				return Acquire
			}
			return Event
		}
	}
	return Acquire
}

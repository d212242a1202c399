// Package cpython reads a CPython interpreter in the memory of another process,
// without stopping it and without running anything in it: threads, Python
// frames, the global interpreter lock (GIL) and the roots from which objects
// can be found. It knows the releases 3.8 to 3.14 with a GIL on 64-bit Linux.
//
// What is read may change while it is read. Every pointer is checked for what
// it should point to before it is believed, and stacks are read twice: a stack
// that changed in between is flagged Torn, and one that makes no sense carries
// an error. A thread that sleeps in the kernel is always read exactly.
package cpython

import (
	"errors"
	"fmt"

	"forkproof/internal/procmem"
)

// Bounds on what is believed of a target. CPython's own recursion limit is 1000
// frames unless the program raised it.
const (
	maxFrames       = 2000
	maxThreads      = 10000
	maxInterpreters = 1000
	maxString       = 4096 // characters
	maxLineTable    = 1 << 20
	// Of all threads together, against a target that wants to keep its reader
	// busy: frames, and bytes of what is kept of code objects.
	maxAllFrames = 100_000
	maxCode      = 64 << 20
)

// Errors of this package, for errors.Is.
var (
	// ErrNoPython says that no mapped object holds a CPython runtime.
	ErrNoPython = errors.New("no CPython interpreter in this process")
	// ErrNotRunning says that the runtime is there but no interpreter was
	// started in it, or the last one has ended.
	ErrNotRunning = errors.New("the CPython runtime is loaded but no interpreter runs")
	// ErrUnsupported says that a release or build of CPython is not known.
	// The error in the chain is an *UnsupportedError.
	ErrUnsupported = errors.New("unsupported build of CPython")
	// ErrImplausible says that memory does not look as it must look for the
	// release that was found: a build with other options, or damage.
	ErrImplausible = errors.New("memory does not look like the CPython release found")
	// ErrNotString says that an object is no readable str.
	ErrNotString = errors.New("not a readable str object")
)

// Version is a release of CPython. Micro is -1 where only the minor release is
// known.
type Version struct {
	Major, Minor, Micro int
	// FreeThreaded is set for a build without GIL (PEP 703).
	FreeThreaded bool
}

// String returns "3.11.2", "3.9" where the patch level is unknown, and "3.13.1t"
// for a free-threaded build.
func (v Version) String() string {
	s := fmt.Sprintf("%d.%d", v.Major, v.Minor)
	if v.Micro >= 0 {
		s += fmt.Sprintf(".%d", v.Micro)
	}
	if v.FreeThreaded {
		s += "t"
	}
	return s
}

// UnsupportedError is returned by Find for a CPython that cannot be read. It
// matches ErrUnsupported.
type UnsupportedError struct {
	Version Version
	Path    string // the object that holds the runtime
	Reason  string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("CPython %s in %s cannot be read: %s", e.Version, e.Path, e.Reason)
}

// Is reports whether target is ErrUnsupported.
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }

// Runtime is a CPython runtime in a process. It keeps nothing of what it read
// but where things are, so each method tells the present state. It is not safe
// for concurrent use when its Reader is not.
type Runtime struct {
	// Version is the release, Path the mapped object that holds it.
	Version Version
	Path    string
	// Addr is the address of _PyRuntime.
	Addr uint64

	mem procmem.Reader
	lay layout
}

// Interpreter is one PyInterpreterState. Addresses are 0 where the interpreter
// has not made the object yet or has already dropped it.
type Interpreter struct {
	Addr     uint64
	ID       int64  // 0 is the main interpreter
	Modules  uint64 // the dict sys.modules
	SysDict  uint64 // the dict of module sys
	Builtins uint64 // the dict of module builtins

	threads uint64
	gil     uint64
}

// Interpreters returns the interpreters of the process, the newest first: the
// main one is the last.
func (r *Runtime) Interpreters() ([]Interpreter, error) {
	head, err := r.word(r.Addr, r.lay.interpreters)
	if err != nil {
		return nil, fmt.Errorf("read the list of interpreters: %w", err)
	}
	if head == 0 {
		return nil, ErrNotRunning
	}
	var all []Interpreter
	seen := make(map[uint64]bool)
	for at := head; at != 0; {
		if seen[at] || len(all) >= maxInterpreters {
			return nil, fmt.Errorf("list of interpreters has no end: %w", ErrImplausible)
		}
		seen[at] = true
		in, next, err := r.interpreter(at)
		if err != nil {
			return nil, err
		}
		all = append(all, in)
		at = next
	}
	return all, nil
}

func (r *Runtime) interpreter(at uint64) (in Interpreter, next uint64, err error) {
	l := r.lay.interp
	in.Addr = at
	var id uint64
	for _, f := range []struct {
		to  *uint64
		off int
	}{
		{&next, l.next}, {&id, l.id}, {&in.threads, l.threads}, {&in.Modules, l.modules},
		{&in.SysDict, l.sysdict}, {&in.Builtins, l.builtins}, {&in.gil, l.gil},
	} {
		if f.off == absent {
			continue
		}
		if *f.to, err = r.word(at, f.off); err != nil {
			return in, 0, fmt.Errorf("read interpreter state: %w", err)
		}
	}
	in.ID = int64(id)
	if r.lay.gil != absent {
		in.gil = r.Addr + uint64(r.lay.gil)
	}
	return in, next, nil
}

// Main returns the main interpreter.
func (r *Runtime) Main() (Interpreter, error) {
	all, err := r.Interpreters()
	if err != nil {
		return Interpreter{}, err
	}
	return all[len(all)-1], nil
}

// ModulesDict returns the address of the main interpreter's sys.modules, or 0
// where it cannot be read or does not exist (yet, or any more).
func (r *Runtime) ModulesDict() uint64 {
	in, err := r.Main()
	if err != nil {
		return 0
	}
	return in.Modules
}

// Finalizing reports whether the runtime is shutting down: in that state other
// threads than the finalizing one hang or exit when they want the GIL.
func (r *Runtime) Finalizing() (bool, error) {
	w, err := r.word(r.Addr, r.lay.finalizing)
	if err != nil {
		return false, fmt.Errorf("read whether Python is shutting down: %w", err)
	}
	return w != 0, nil
}

// word reads 8 bytes at a field of a structure.
func (r *Runtime) word(base uint64, off int) (uint64, error) {
	return procmem.Uint64(r.mem, base+uint64(off))
}

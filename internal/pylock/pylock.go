// Package pylock tells what CPython's locks look like in the memory of another
// process: which lock a sleeping thread waits for, whether a lock is held and by
// whom, and by which name the program knows it ("app.jobs.mutex",
// "sys.stderr.buffer").
//
// It knows the releases 3.8 to 3.14 with a GIL on 64-bit little-endian Linux,
// with glibc and musl. Until 3.12 every lock of Python is a sem_t on the heap.
// 3.13 has, besides, one-byte mutexes and events whose waiters sleep on a
// semaphore of their own C stack (Python/parking_lot.c); later ones of 3.13 use
// them for threading.Lock, 3.14 for RLock too. The locks of buffered files are
// semaphores in all of them.
//
// An owner is a thread ident: pthread_self(), that is, the address of the
// thread's control block, and not a kernel thread id.
package pylock

import (
	"errors"
	"fmt"
	"time"

	"forkproof/internal/cpython"
	"forkproof/internal/procmem"
)

// ErrUnsupported says that the objects of a release are not known here.
var ErrUnsupported = errors.New("locks of this CPython release are not known")

// Kind is what a lock is, in the words of package finding.
type Kind string

// The kinds of locks, and of things that threads wait for in the same way but
// which nobody owns.
const (
	KindLock     Kind = "python-lock"     // threading.Lock, _thread.lock
	KindRLock    Kind = "python-rlock"    // threading.RLock
	KindBuffered Kind = "python-buffered" // the lock in io.BufferedReader, BufferedWriter, BufferedRandom
	KindImport   Kind = "python-import"   // a module's import lock, or that of the interpreter
	KindQueue    Kind = "python-queue"    // queue.SimpleQueue: waits for an item
	KindEvent    Kind = "python-event"    // a one-time event inside of CPython: the end of a thread
	KindInternal Kind = "python-internal" // a mutex of CPython's own, in no object that is known here
)

// Exclusive reports whether the kind is mutual exclusion as such, whatever the
// code around it: an RLock cannot be used as a signal between threads, a plain
// Lock can.
func (k Kind) Exclusive() bool { return k == KindRLock || k == KindBuffered || k == KindImport }

// Lock is one lock in the memory of the process.
type Lock struct {
	Kind Kind
	// Word is the address of the sem_t (until 3.13) or of the byte of a PyMutex.
	Word uint64
	// Object is the Python object that has the lock: a _thread.lock, a
	// BufferedWriter, a _ModuleLock. 0 for a lock that no object has.
	Object uint64
	// Type is the type of Object, "_thread.lock".
	Type string
	// Locked is the state when it was read.
	Locked bool
	// Owner is the ident of the thread that holds the lock. OwnerKnown is false
	// where this kind of lock records none, or nobody holds it.
	Owner      uint64
	OwnerKnown bool
	// Name is how the program reaches Object; its zero value where it was not
	// looked for or not found.
	Name Name
}

// Name is a way to an object, as one would write it in Python.
type Name struct {
	// Path begins with a module: "app.refresh_lock", "app.jobs.mutex",
	// "logging.getLogger('gunicorn.error').handlers[0].stream.buffer". Empty
	// where only Local is known.
	Path string
	// Local begins with a local variable of the thread that waits: "self.mutex".
	Local string
	// In is the function that Local belongs to, as cpython.Frame.Function.
	In string
	// Type is the type of the object before the last dot, with its module:
	// "queue.Queue" in "app.jobs.mutex". Empty for a module's global.
	Type string
	// Object is the address of the object that is named.
	Object uint64
}

// String returns the best way to name the object, "" where there is none.
func (n Name) String() string {
	switch {
	case n.Path != "":
		return n.Path
	case n.Local == "":
		return ""
	case n.Type != "":
		return fmt.Sprintf("%s of %s in %s", n.Local, n.Type, n.In)
	default:
		return fmt.Sprintf("%s in %s", n.Local, n.In)
	}
}

// Limits bound the search for names. The zero value means the defaults.
type Limits struct {
	Objects int           // objects looked at; 60,000 by default
	Time    time.Duration // wall time; 20 ms by default
}

// Defaults of Limits.
const (
	defaultObjects = 60_000
	defaultTime    = 20 * time.Millisecond
)

// Roots are where the objects of an interpreter begin.
type Roots struct {
	Modules uint64 // the dict sys.modules; 0 where there is none
	Interp  uint64 // the PyInterpreterState; 0 where it is not known
}

// Heap is the objects of one interpreter in the memory of a process. It keeps
// what it read, so it is one look at one moment: make a new one to look again.
// It is not safe for concurrent use.
type Heap struct {
	mem   *procmem.Cache
	lay   layout
	start Roots
	types map[uint64]*typeInfo
	buf   [512]byte
	graph graph
	fileK uint64 // the interned key "__file__"
}

// New returns the objects of an interpreter of Python 3.minor. mem should not be
// a cache. It returns ErrUnsupported for a release that is not known.
func New(mem procmem.Reader, v cpython.Version, roots Roots, limits Limits) (*Heap, error) {
	lay, ok := layoutFor(v.Minor)
	if v.Major != 3 || !ok || v.FreeThreaded {
		return nil, fmt.Errorf("CPython %s: %w", v, ErrUnsupported)
	}
	if limits.Objects <= 0 {
		limits.Objects = defaultObjects
	}
	if limits.Time <= 0 {
		limits.Time = defaultTime
	}
	h := &Heap{mem: procmem.CachedObjects(mem), lay: lay, start: roots, types: make(map[uint64]*typeInfo)}
	h.graph.limits = limits
	return h, nil
}

// Open is New for the main interpreter of a runtime that was found in mem.
func Open(mem procmem.Reader, rt *cpython.Runtime, limits Limits) (*Heap, error) {
	in, err := rt.Main()
	if err != nil {
		return nil, err
	}
	return New(mem, rt.Version, Roots{Modules: in.Modules, Interp: in.Addr}, limits)
}

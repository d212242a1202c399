// Package scenario is the language in which a program around fork is told to the
// model: locks, threads that are lists of calls, fork handlers with their bodies,
// libraries, and what the child does. It reads YAML, and says of whatever it
// cannot take in which line and column it stands and what is allowed there.
package scenario

// Limits of one scenario. The model keeps a state in a few dozen bytes, and what
// is worth asking of a fork needs few threads.
const (
	MaxThreads    = 12
	MaxLocks      = 24
	MaxSemaphores = 8
	MaxStreams    = 8
	MaxLibraries  = 8
	MaxHandlers   = 16
	MaxFunctions  = 64
	MaxArenas     = 4
	MaxRepeat     = 100  // rounds of one repeat
	MaxCalls      = 4000 // of all threads and bodies, functions and repeats written out
	MaxNesting    = 16   // of repeats, forks and functions within one another
	MaxSize       = 1 << 20
)

// Scenario is a program around fork. What it names is declared in it, and no
// function calls itself, however indirectly: Read and Load see to that.
type Scenario struct {
	Name  string   // as in `model run NAME`
	Title string   // one line
	About string   // what it stands for, and what to look for
	Known []string // identifiers of the facts that it shows, such as BZ-24595
	// Sources of what is told: commits, bugs, articles.
	Sources []string
	// Arenas of malloc that threads share, from 1: the first thread uses the
	// first, the others those after it in turn. A libc with a single heap takes
	// them for one.
	Arenas int
	// Streams besides stdin, stdout and stderr; FILE objects of the program.
	Streams    []string
	Locks      []Lock
	Semaphores []string
	Functions  []Function
	Libraries  []Library
	Handlers   []Handler
	// Atfork are the handlers that are registered when the threads start, oldest
	// first. Malloc stands where the process first used malloc: glibc up to 2.23
	// registers handlers of its own then. It is always among them.
	Atfork []string
	// Threads in the order of the file; the first is the one that runs main.
	Threads []Thread
}

// Malloc is the name in Scenario.Atfork of the first use of malloc.
const Malloc = "malloc"

// Kind of a lock of the program, as of a pthread mutex.
type Kind string

// Kinds of locks. Those other than Normal know their owner, by the number that
// the kernel gives a thread: which the child of a fork does not share.
const (
	Normal     Kind = "normal"
	Recursive  Kind = "recursive"
	Errorcheck Kind = "errorcheck"
)

// Lock is a lock of the program or of one of its libraries.
type Lock struct {
	Name string
	Kind Kind
}

// Function is a name for several calls. That of a library can be called only while
// the library is loaded.
type Function struct {
	Name    string
	Library string // empty: of the program
	Body    []Call
}

// Library is a shared library that can be loaded and unloaded.
type Library struct {
	Name string
	// Loaded says that it is there when the threads start.
	Loaded bool
	// Load and Unload are the bodies of its constructor and destructor.
	Load, Unload []Call
}

// Handler is what one call of pthread_atfork registers.
type Handler struct {
	Name    string
	Library string // whose code it is; empty: the program's
	// Bodies; nil where none was given.
	Prepare, Parent, Child []Call
}

// Thread of the process that forks.
type Thread struct {
	Name string
	Body []Call
	Pos  Pos
}

// Pos is a place in a file, from 1.
type Pos struct{ Line, Column int }

// Call is one thing that a thread does.
type Call struct {
	Verb Verb
	// Arg is what it is done to; empty where the verb takes nothing, and with
	// fflush where all streams are meant.
	Arg string
	// Body of a fork: what the child does before it ends by itself with _exit.
	// Of a repeat: what is repeated.
	Body  []Call
	Times int // of a repeat
	Pos   Pos
}

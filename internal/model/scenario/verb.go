package scenario

import (
	"slices"
	"strings"
)

// Verb is what a call does, as it is written in a scenario.
type Verb string

// The verbs that the model treats on its own. The others are functions of the C
// library whose locks are data: see Verbs.
const (
	LockVerb      Verb = "lock"
	UnlockVerb    Verb = "unlock"
	InitVerb      Verb = "init"
	PostVerb      Verb = "post"
	AwaitVerb     Verb = "await"
	JoinVerb      Verb = "join"
	CallVerb      Verb = "call"
	RepeatVerb    Verb = "repeat"
	ForkVerb      Verb = "fork"
	WaitVerb      Verb = "wait"
	ExitVerb      Verb = "exit"
	QuickExitVerb Verb = "_exit"
	AtforkVerb    Verb = "pthread_atfork"
	DlopenVerb    Verb = "dlopen"
	DlcloseVerb   Verb = "dlclose"
	FflushVerb    Verb = "fflush"
	FlockfileVerb Verb = "flockfile"
	FunlockVerb   Verb = "funlockfile"
	GetlineVerb   Verb = "getline"
	MallocVerb    Verb = "malloc"
	FreeVerb      Verb = "free"
	ReallocVerb   Verb = "realloc"
	PrintfVerb    Verb = "printf"
	WriteVerb     Verb = "write"
	IterateVerb   Verb = "dl_iterate_phdr"
	SetenvVerb    Verb = "setenv"
	LocaltimeVerb Verb = "localtime"
	RandomVerb    Verb = "random"
	SyslogVerb    Verb = "syslog"
	SetlocaleVerb Verb = "setlocale"
	GettextVerb   Verb = "gettext"
	IconvVerb     Verb = "iconv_open"
	AtexitVerb    Verb = "atexit"
	AddrinfoVerb  Verb = "getaddrinfo"
	PasswdVerb    Verb = "getpwnam"
	SemOpenVerb   Verb = "sem_open"
	PopenVerb     Verb = "popen"
)

// Takes is the kind of thing that a verb is followed by.
type Takes string

// What verbs take.
const (
	TakesNothing   Takes = ""
	TakesLock      Takes = "lock"
	TakesSemaphore Takes = "semaphore"
	TakesThread    Takes = "thread"
	TakesFunction  Takes = "function"
	TakesHandler   Takes = "handler"
	TakesLibrary   Takes = "library"
	TakesStream    Takes = "stream"
)

// Word is one verb, as `model show --calls` and the documentation explain it.
type Word struct {
	Verb  Verb
	Takes Takes
	// Optional says that the argument may be left out.
	Optional bool
	// Says is what it does, in a few words.
	Says string
}

// Words returns every verb, in the order in which they are explained.
func Words() []Word { return slices.Clone(words) }

var words = []Word{
	{LockVerb, TakesLock, false, "takes a lock of the scenario"},
	{UnlockVerb, TakesLock, false, "lets it go; a recursive or errorcheck lock only if the thread owns it"},
	{InitVerb, TakesLock, false, "makes the lock anew, free, whoever held it (pthread_mutex_init)"},
	{PostVerb, TakesSemaphore, false, "adds one to a semaphore, which starts at nought"},
	{AwaitVerb, TakesSemaphore, false, "waits until it is above nought and takes one from it"},
	{JoinVerb, TakesThread, false, "waits until a thread has ended (pthread_join)"},
	{CallVerb, TakesFunction, false, "does what a function of the scenario does"},
	{RepeatVerb, TakesNothing, false, "does the calls under do: so many times"},
	{ForkVerb, TakesNothing, false, "forks; the calls under it are the child's, which then ends with _exit"},
	{WaitVerb, TakesNothing, false, "waits for a child to end"},
	{ExitVerb, TakesNothing, false, "ends the process by exit: its functions and all streams first"},
	{QuickExitVerb, TakesNothing, false, "ends the process at once"},
	{AtforkVerb, TakesHandler, false, "registers a handler of the scenario"},
	{DlopenVerb, TakesLibrary, false, "loads a library and runs its constructor, if it is not loaded"},
	{DlcloseVerb, TakesLibrary, false, "lets a library go: the last one runs its destructor and takes its fork handlers off the list"},
	{MallocVerb, TakesNothing, false, "allocates in the thread's arena"},
	{FreeVerb, TakesNothing, false, "frees in the thread's arena"},
	{ReallocVerb, TakesNothing, false, "reallocates in the thread's arena"},
	{PrintfVerb, TakesNothing, false, "writes to stdout"},
	{FflushVerb, TakesStream, true, "flushes a stream, or all: fflush(NULL)"},
	{FlockfileVerb, TakesStream, false, "takes the lock of a stream"},
	{FunlockVerb, TakesStream, false, "lets it go"},
	{GetlineVerb, TakesStream, false, "reads a line too long for its buffer, so that it allocates with the stream locked"},
	{WriteVerb, TakesNothing, false, "writes by the system call: safe even in signal handlers, and takes no lock"},
	{IterateVerb, TakesNothing, false, "walks over the loaded libraries, as a C++ exception does"},
	{SetenvVerb, TakesNothing, false, "changes the environment"},
	{LocaltimeVerb, TakesNothing, false, "turns a time into a date of the time zone"},
	{RandomVerb, TakesNothing, false, "draws a number"},
	{SyslogVerb, TakesNothing, false, "writes to the system's log"},
	{SetlocaleVerb, TakesNothing, false, "changes the locale"},
	{GettextVerb, TakesNothing, false, "translates a message"},
	{IconvVerb, TakesNothing, false, "opens a conversion of character sets"},
	{AtexitVerb, TakesNothing, false, "registers a function for exit"},
	{AddrinfoVerb, TakesNothing, false, "looks up a host, as every network client does"},
	{PasswdVerb, TakesNothing, false, "looks up a user"},
	{SemOpenVerb, TakesNothing, false, "opens a named semaphore"},
	{PopenVerb, TakesNothing, false, "starts a command with a pipe"},
}

var wordOf = func() map[Verb]Word {
	m := make(map[Verb]Word, len(words))
	for _, w := range words {
		m[w.Verb] = w
	}
	return m
}()

// verbs lists the verbs for an error.
func verbs() string {
	var s []string
	for _, w := range words {
		s = append(s, string(w.Verb))
	}
	return strings.Join(s, ", ")
}

// Package libc has what fork, its handlers and the calls around it do in each C
// library, as data: short lists of steps in the order of the source. One file holds
// one algorithm, so that what a release changed is the difference of two files.
package libc

// Do is what one step does.
type Do uint8

// What steps do.
const (
	Take     Do = iota + 1 // lock What
	Release                // unlock What
	InTurn                 // take and release each of What, one after the other
	Renew                  // make What free, whoever held it
	Handlers               // run the user's handlers of the phase
	IfOwner                // Steps, if the thread has What
	IfNot                  // Steps, unless the thread has What
	Threaded               // Steps, if the process has, or had, more than one thread
	Call                   // what the call What of this libc does
	Fails                  // the process crashes, for What
	Append                 // the handler goes on the list
	Remove                 // the library's handlers go off the list
	Retire                 // ... but stay until no fork uses them; Steps only if there are any
	Unused                 // wait until no fork uses them
	Deaf                   // the same, but who sleeps is never woken
	Body                   // the constructor or destructor of the library
	End                    // the process ends
	Pass                   // nothing that anybody else could see
	Back                   // a function of the program's is called, or a file opened: it may take its time
)

// Step is one step of an algorithm.
type Step struct {
	Do    Do
	What  string
	Steps []Step
}

// Names of locks that stand for several, or for one that depends on the call.
const (
	Arena   = "arena"      // the arena of the calling thread
	Arenas  = "all arenas" // each in order
	Stream  = "stream"     // that of the call
	Streams = "all streams"
	// Those of Streams that every program has, and those that it opened.
	Standard = "standard streams"
	Opened   = "opened streams"
	Stdout   = "stream stdout"
)

// Builders of steps.
func take(what string) Step              { return Step{Do: Take, What: what} }
func release(what string) Step           { return Step{Do: Release, What: what} }
func inTurn(what string) Step            { return Step{Do: InTurn, What: what} }
func renew(what string) Step             { return Step{Do: Renew, What: what} }
func handlers() Step                     { return Step{Do: Handlers} }
func threaded(s ...Step) Step            { return Step{Do: Threaded, Steps: s} }
func unless(held string, s ...Step) Step { return Step{Do: IfNot, What: held, Steps: s} }
func when(held string, s ...Step) Step   { return Step{Do: IfOwner, What: held, Steps: s} }
func call(what string) Step              { return Step{Do: Call, What: what} }
func fails(why string) Step              { return Step{Do: Fails, What: why} }
func end() Step                          { return Step{Do: End} }
func pass() Step                         { return Step{Do: Pass} }
func steps(s ...Step) []Step             { return s }

// under is a call that has a lock while it does something.
func under(lock string, s ...Step) []Step {
	return append(append(steps(take(lock)), s...), release(lock))
}

// each takes, lets go or renews several locks in their order.
func each(do func(string) Step, locks ...string) []Step {
	var s []Step
	for _, l := range locks {
		s = append(s, do(l))
	}
	return s
}

// Traits are what a lock inside a libc is like; none: a plain one.
type Traits struct {
	Recursive bool
	// ByNumber: its owner is the kernel's number of the thread, which the child of a
	// fork does not share with its parent.
	ByNumber bool
	// Elided: it is not taken where the process believes that it has one thread.
	Elided bool
}

// Walk is how the list of handlers is kept and walked over.
type Walk uint8

// The ways; machine.ListKind explains them.
const (
	Counted Walk = iota
	Indexed
	Numbered
	Linked
	Cursor
)

// Elision is what becomes of elided locks in the child of a process with threads.
type Elision uint8

// What becomes of them.
const (
	Kept    Elision = iota // nothing: they are taken as before
	Once                   // the next one is taken; none after it
	Dropped                // none is taken any more
)

// Fork is the algorithm of fork.
type Fork struct {
	Prepare, InParent, InChild []Step
	List                       Walk
	// Around each handler of the user's, in every phase.
	Before, After []Step
	// Unless any handler was ever registered, Prepare and the others skip what is
	// about the list.
	SkipsEmpty bool
	Elision    Elision
}

// Own are handlers that malloc registers for itself when it is first used.
type Own struct {
	Prepare, Parent, Child []Step
	// First: malloc is always used before anything else registers a handler.
	First bool
}

// Libc is one algorithm: of a release, or of those between two.
type Libc struct {
	// Name is how it is asked for: family, - and the first release that has it.
	Name, Family string
	// First and Last release of it; no Last: it is the newest.
	First, Last string
	// Group is its letter among glibc's; see docs/model.md.
	Group string
	// Says in one line what sets it apart from the one before.
	Says string
	// Sources: release and commit that were read.
	Sources []string
	Fork    Fork
	// Malloc's own handlers; nil if fork itself looks after malloc, or nobody does.
	Malloc *Own
	// Heap says that malloc has one heap for all threads.
	Heap bool
	// Calls by verb of a scenario. One that is missing was not read, and a scenario
	// with it cannot be run.
	Calls map[string][]Step
	// Traits of locks by name; "stream" for all streams.
	Traits map[string]Traits
	// Renumbers says that fork renews the owner of what the forking thread holds, so
	// that the program's recursive locks are still its own in the child.
	Renumbers bool
	// Forgets says that a child does not remember that its parent had threads.
	Forgets bool
	// Unloads says that dlclose takes the code of a library away.
	Unloads bool
	// JoinHangs says that pthread_join of a thread that the child does not have
	// never returns. Calls has join where that was looked at.
	JoinHangs bool
}

// All returns every libc, oldest first within its family.
func All() []Libc {
	return []Libc{
		glibcA(), glibcB(), glibcC(), glibcD(), glibcD2(), glibcE(), glibcF(), glibcG(), glibcH(), glibcI(), glibcJ(), glibcK(), glibcL(),
		musl11(), musl121(), musl122(), musl124(),
		bionic(), freebsd(), macos(), posix(),
	}
}

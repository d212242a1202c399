// Package machine runs small programs of threads, locks and forks through every
// interleaving. It knows nothing of C libraries: a program is code for each thread
// over a handful of shared bytes, and a state is those bytes. Exploration is exact:
// whole states are kept and compared.
package machine

import (
	"fmt"
	"slices"
)

// Op is what an instruction does.
type Op uint8

// Operations. Those above firstSilent look only at what other threads cannot
// change; they are done along with the step before them.
const (
	End   Op = iota // the thread has ended
	Gone            // the thread is not in this process: fork did not copy it
	Never           // the thread sleeps and nobody wakes it
	Pass            // does nothing that anything else could see
	Lock
	Unlock
	Reset // makes lock A free, whoever held it
	Post
	Await
	Join
	Clone      // fork's system call: the process goes on at Next, its child at To
	Exit       // ends the process and all of its threads
	Crash      // ends the process too, for Program.Crashes[A]
	Register   // appends handler A to the list
	Unregister // takes the handlers of library A off the list
	// Retire takes the handlers of library A off a counted list but leaves them to
	// the forks that use them; To is where it goes if there is none.
	Retire
	// AwaitUnused waits until no fork uses what library A retired. If To is not
	// nought a thread that finds one in use sleeps there instead.
	AwaitUnused
	Open    // counts library A up; To is where it goes if it was loaded already
	Loaded  // library A is there from now on
	Close   // counts library A down; To is where it goes if others use it still
	Unload  // library A is gone
	Present // crashes if library A is not there
	Stop    // nothing: a Stepper may wait here; A is not nought within a call
	// First, Next handler of the list for frame B in phase C: jumps into the table A
	// at the handler's number, or to To if there is none left.
	FirstHandler
	NextHandler

	firstSilent
	IfOwner // goes to To if the thread has lock A
	Jump
)

// Phase of the handlers of a fork.
type Phase uint8

// The phases.
const (
	Prepare Phase = iota
	Parent
	Child
)

// Instr is one instruction. What it means to say is in Program.Says.
type Instr struct {
	Op      Op
	A, B, C uint8
	Next    uint16
	To      uint16
	Touches uint64 // the shared things that it reads or changes
}

// LockKind says how a lock treats who has it and who wants it again.
type LockKind struct {
	Name string
	// Recursive: the owner may take it again. Checked: the owner that does is told
	// so and goes on without.
	Recursive, Checked bool
	// ByNumber: the owner is known by the kernel's number of the thread, which is
	// another one in a child of fork; so what the forking thread held is not its
	// own there.
	ByNumber bool
	// Refuses: only the owner can let it go.
	Refuses bool
	// Elided: not taken at all where the process believes that it has one thread.
	Elided bool
}

// ListKind is how a C library keeps the fork handlers and walks over them.
type ListKind uint8

// The kinds, by what happens to a list that changes while it is walked.
const (
	// Counted: linked entries, each with a count of the forks that use it. The walk
	// after the fork goes over the entries of the walk before it.
	Counted ListKind = iota
	// Indexed: an array, walked by index up to the length at the start.
	Indexed
	// Numbered: an array whose entries have rising numbers by which the walk finds
	// its place again; none is run that came after the walk before the fork began.
	Numbered
	// Linked: a list that is walked as it is at each step; entries that are added at
	// its end are met by a walk towards it.
	Linked
	// Cursor: a list linked both ways whose one anchor is also the place of the walk:
	// what is registered during one is linked in at that place, and cuts off what
	// was before it there.
	Cursor
)

// Mode says whether locks that are Elided are taken.
type Mode uint8

// The modes.
const (
	Real  Mode = iota // they are
	Once              // the next one is taken, those after it are not
	Plain             // they are not
)

// Handler is what the list of handlers can hold.
type Handler struct {
	Name    string
	Library int // whose code it is; -1: of none that can be unloaded
	// Has says for each phase whether there is a body.
	Has [3]bool
}

// Limits of a program.
const (
	MaxThreads       = 12
	MaxLocks         = 96
	MaxRegistrations = 16 // in one run
	MaxCode          = 1<<16 - 8
	MaxRoles         = 7 // children of children of ...
)

// Fixed places in the code of every program.
const (
	ended  uint16 = 0
	gone   uint16 = 1
	asleep uint16 = 2
)

// Sleep is where a thread is that nobody wakes.
const Sleep = asleep

// FirstFree is where the code of threads begins.
const FirstFree = 3

// Program is what is explored.
type Program struct {
	Code []Instr // begins with End, Gone and Never
	Says []Note  // for each instruction
	// Threads have a name and the place where they start.
	Threads []Thread
	Locks   []LockKind
	// Semaphores are named; all begin at nought.
	Semaphores []string
	// Libraries are named; Loaded says which are there at the start.
	Libraries []string
	Loaded    []bool
	Handlers  []Handler
	// Registered are the handlers on the list at the start, oldest first.
	Registered []uint8
	List       ListKind
	// Frames is how many forks can be under way in one thread, one within a handler
	// of another; of each thread.
	Frames []int
	// Start is the mode of the first process, InChild that of a child whose parent
	// had threads.
	Start, InChild Mode
	// Tables are where the bodies of handlers begin, by number of the handler.
	Tables [][]uint16
	// Crashes name what Crash stands for.
	Crashes []string
	// JoinHangs: in a child a join of a thread that fork did not copy never returns.
	JoinHangs bool
}

// Thread of a program.
type Thread struct {
	Name  string
	Start uint16
}

// Note says what an instruction stands for.
type Note struct {
	// Call of the scenario that it belongs to, such as "fflush"; the body of a
	// handler within fork says "fork > handler h, child > dlclose l".
	Call string
	// Step is what it does there, such as "lock stdio list". Empty: no more than the
	// call itself.
	Step         string
	Line, Column int // in the scenario
	// Quiet: it is a step of the walk over the handlers, of which their bodies tell.
	Quiet bool
}

// check refuses what does not fit into a state.
func (p *Program) check() error {
	switch {
	case len(p.Code) > MaxCode:
		return fmt.Errorf("the program has %d steps; the model takes at most %d", len(p.Code), MaxCode)
	case len(p.Threads) > MaxThreads:
		return fmt.Errorf("the program has %d threads; the model takes at most %d", len(p.Threads), MaxThreads)
	case len(p.Locks) > MaxLocks:
		return fmt.Errorf("the program has %d locks; the model takes at most %d", len(p.Locks), MaxLocks)
	case len(p.Registered) > MaxRegistrations:
		return fmt.Errorf("%d handlers are registered at the start; the model takes at most %d", len(p.Registered), MaxRegistrations)
	case len(p.Code) < FirstFree || p.Code[ended].Op != End || p.Code[gone].Op != Gone || p.Code[asleep].Op != Never:
		return fmt.Errorf("the code does not begin with its three fixed places")
	}
	return nil
}

// linked returns the program ready to run; the given one stays as it is.
func (p *Program) linked() *Program {
	q := *p
	q.Code, q.Threads = slices.Clone(p.Code), slices.Clone(p.Threads)
	q.Tables = make([][]uint16, len(p.Tables))
	for i, t := range p.Tables {
		q.Tables[i] = slices.Clone(t)
	}
	q.straighten()
	q.touching()
	return &q
}

// straighten lets instructions lead past jumps, so that none is followed at run
// time.
func (p *Program) straighten() {
	past := func(pc uint16) uint16 {
		for range len(p.Code) {
			if p.Code[pc].Op != Jump {
				break
			}
			pc = p.Code[pc].Next
		}
		return pc
	}
	for i := range p.Code {
		p.Code[i].Next, p.Code[i].To = past(p.Code[i].Next), past(p.Code[i].To)
	}
	for _, t := range p.Tables {
		for i := range t {
			t[i] = past(t[i])
		}
	}
	for i := range p.Threads {
		p.Threads[i].Start = past(p.Threads[i].Start)
	}
}

// everything is touched by what ends a process or copies it.
const everything = ^uint64(0)

// touching gives each shared thing a bit, and each instruction the bits of what it
// touches. Things beyond the last bit share it, which loses nothing but reduction.
func (p *Program) touching() {
	next := 0
	bit := func() uint64 {
		b := uint64(1) << min(next, 63)
		next++
		return b
	}
	list := bit()
	locks := make([]uint64, len(p.Locks))
	for i := range locks {
		locks[i] = bit()
	}
	semaphores := make([]uint64, len(p.Semaphores))
	for i := range semaphores {
		semaphores[i] = bit()
	}
	libraries := make([]uint64, len(p.Libraries))
	for i := range libraries {
		libraries[i] = bit()
	}
	ends := make([]uint64, len(p.Threads))
	for i := range ends {
		ends[i] = bit()
	}
	for i := range p.Code {
		in := &p.Code[i]
		switch in.Op {
		case Lock, Unlock, Reset:
			in.Touches = locks[in.A]
		case Post, Await:
			in.Touches = semaphores[in.A]
		case Join:
			in.Touches = ends[in.A]
		case Clone, Exit, Crash:
			in.Touches = everything
		case Register, AwaitUnused:
			in.Touches = list
		case Unregister, Retire:
			in.Touches = list
		case Open, Loaded, Close, Unload:
			in.Touches = libraries[in.A]
		case Present:
			in.Touches = everything // it may end the process
		case FirstHandler, NextHandler:
			in.Touches = list
			if p.canCrash() {
				in.Touches = everything
			}
		}
	}
	// The last step of a thread is what a join of it waits for. A step that touches
	// nothing else touches that too: what copies or ends the process has to do with
	// every step.
	for t := range p.Threads {
		for _, pc := range p.reach(p.Threads[t].Start) {
			if in := &p.Code[pc]; in.Op == Pass || in.Op < firstSilent && slices.ContainsFunc(p.after(pc), p.canEnd) {
				in.Touches |= ends[t]
			}
		}
	}
}

// canCrash reports whether a walk over the handlers may end the process: by an
// entry that is not there any more, or one whose code is not.
func (p *Program) canCrash() bool {
	unloads := slices.ContainsFunc(p.Code, func(in Instr) bool { return in.Op == Unload })
	return slices.ContainsFunc(p.Handlers, func(h Handler) bool { return h.Library >= 0 && (unloads || !p.Loaded[h.Library]) })
}

// canEnd reports whether a thread that comes to pc has ended without another step.
func (p *Program) canEnd(pc uint16) bool {
	switch in := &p.Code[pc]; {
	case in.Op == End:
		return true
	case in.Op > firstSilent:
		return slices.ContainsFunc(p.after(pc), p.canEnd)
	}
	return false
}

// after are the places that one instruction can lead to, in the same process or
// in its child.
func (p *Program) after(pc uint16) []uint16 {
	in := &p.Code[pc]
	switch in.Op {
	case End, Gone, Never, Exit, Crash:
		return nil
	case Clone, Retire, Open, Close, IfOwner:
		return []uint16{in.Next, in.To}
	case AwaitUnused:
		if in.To != 0 {
			return []uint16{in.Next, in.To}
		}
	case FirstHandler, NextHandler:
		return append(slices.Clone(p.Tables[in.A]), in.To)
	}
	return []uint16{in.Next}
}

// reach are all places that a thread can come to from one.
func (p *Program) reach(from uint16) []uint16 {
	seen := map[uint16]bool{from: true}
	todo := []uint16{from}
	for i := 0; i < len(todo); i++ {
		for _, n := range p.after(todo[i]) {
			if !seen[n] {
				seen[n] = true
				todo = append(todo, n)
			}
		}
	}
	return todo
}

// futures are, for each place, all that a thread may touch from there on.
func (p *Program) futures() []uint64 {
	f := make([]uint64, len(p.Code))
	for changed := true; changed; {
		changed = false
		for pc := len(p.Code) - 1; pc >= 0; pc-- {
			m := p.Code[pc].Touches
			for _, n := range p.after(uint16(pc)) {
				m |= f[n]
			}
			if m != f[pc] {
				f[pc], changed = m, true
			}
		}
	}
	return f
}

package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
)

// Kind of what can go wrong.
type Kind string

// Kinds, worst first. Those down to HandlerUnprepared are faults; the rest are worth
// a word.
const (
	// Deadlock: threads wait for each other, or for what nobody will do.
	Deadlock Kind = "deadlock"
	// SelfDeadlock: a thread waits for a lock that it has itself.
	SelfDeadlock Kind = "self-deadlock"
	// Orphaned: a child waits for a lock of a thread that fork did not copy.
	Orphaned Kind = "orphaned-lock"
	// Crashed: the process dies, in code that was unloaded for instance.
	Crashed           Kind = "crash"
	HandlerTwice      Kind = "handler-twice"
	HandlerSkipped    Kind = "handler-skipped"
	HandlerUnprepared Kind = "handler-unprepared"
	// Refused: a lock is not let go, for the thread does not count as its owner.
	Refused Kind = "unlock-refused"
	// Torn: what a lock guards is used as a vanished thread left it.
	Torn Kind = "torn"
	// LeftLocked: a lock stays locked in a child whose owner is not in it.
	LeftLocked Kind = "left-locked"
)

// Fault reports whether something of this kind makes a scenario fail. The others are
// told, but a program can live with them as long as it keeps away from the lock.
func (k Kind) Fault() bool {
	return slices.Contains([]Kind{Deadlock, SelfDeadlock, Orphaned, Crashed, HandlerTwice, HandlerSkipped, HandlerUnprepared}, k)
}

// Where something goes wrong.
type Where string

// Where.
const (
	Master Where = "master" // the process that forks
	Child  Where = "child"  // its child, or a child of that
)

// Options of a run.
type Options struct {
	Full   bool // explore every interleaving, without reduction
	Memory int  // bytes that states may take; 0: machine.DefaultMemory
}

// Result is what became of a scenario on one libc.
type Result struct {
	Scenario *scenario.Scenario
	Libc     *libc.Libc
	// Unread says why it could not be run; the rest is empty then.
	Unread  *Unread
	Threads []string
	States  int
	Steps   int // from one state to another, also to known ones
	Ends    int
	Bytes   int // of memory that states took
	Elapsed time.Duration
	// Complete says that all states were explored. If not, what was not found may
	// still be there.
	Complete bool
	// Findings, worst first; of each the shortest way there.
	Findings []Finding
}

// Finding is one thing that can go wrong.
type Finding struct {
	Kind  Kind
	Where Where
	// Says it in one sentence.
	Says string
	// Ends is how many states without a next step show it.
	Ends int
	// Events that lead there, in order.
	Events []Event
	// Waits are the threads that stand still at the end.
	Waits []Wait
	// Cycle are threads each of which waits for the next, and the last for the first;
	// empty where there is no such ring.
	Cycle []string
	// Held are locks that are taken at the end.
	Held []Held
	// Process is 0 if it is the process that forks that ends so, 1 for its child ...
	Process int
}

// Event is one step of one thread.
type Event struct {
	Thread int    // its column
	Child  int    // 0 in the process that forks, 1 in its child, and so on
	Call   string // such as "fork > child handler h > dlclose lib"
	Step   string // such as "take fork handlers"; empty: the call itself
	Line   int    // in the scenario
	// Forks: this is fork's system call, and the child goes on.
	Forks bool
	// Quiet: nothing happens that is worth a line.
	Quiet bool
}

// Wait is a thread that stands still.
type Wait struct {
	Thread string
	Column int // its number
	Call   string
	For    string // a lock, or what else it waits for
	Owner  string // who would have to act; in words where it is no thread
	// Lock: it is a lock that Owner has.
	Lock bool
	Line int
}

// Says is what is waited for and why in vain, after "waits".
func (w Wait) Says() string {
	s := "for " + w.For
	if call := last(w.Call); call != w.For {
		s = "in " + call + " " + s
	}
	switch {
	case w.Owner == w.Thread && w.Lock:
		return s + ", which it has itself"
	case w.Owner == w.Thread:
		return s + ", which is its own"
	case w.Lock:
		return s + ", held by " + w.Owner
	}
	return s + ", of " + w.Owner
}

// Held is a lock that is taken at the end.
type Held struct{ Lock, Owner string }

// most is how many findings of one run are kept; a scenario has few, but its threads
// may meet in many ways.
const most = 64

// Run runs a scenario on a libc. machine.ErrMemory comes with what was seen so far;
// that a libc lacks a call is not an error, but Result.Unread.
func Run(ctx context.Context, s *scenario.Scenario, l *libc.Libc, opt Options) (*Result, error) {
	r := &Result{Scenario: s, Libc: l}
	for _, t := range s.Threads {
		r.Threads = append(r.Threads, t.Name)
	}
	p, err := Compile(s, l)
	if errors.As(err, &r.Unread) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	g := gatherer{p: p, r: r, byKey: make(map[string]*Finding)}
	begun := time.Now()
	x, err := machine.Explore(ctx, p, machine.Options{Full: opt.Full, Memory: opt.Memory, Ends: g.end})
	if x == nil {
		return nil, err
	}
	r.Elapsed = time.Since(begun)
	r.States, r.Steps, r.Ends, r.Bytes, r.Complete = x.States, x.Steps, x.Ends, x.Bytes, x.Complete && !g.overflow
	r.Findings = g.sorted()
	if err == nil && g.overflow {
		err = ErrRoom
	}
	return r, err
}

// ErrRoom says that a state had no room for what a scenario does.
var ErrRoom = errors.New("the scenario registers more than 16 handlers, takes a lock more than 15 times over or forks more than 7 deep; what follows was not explored")

// Worst is the worst finding; nil if there is none.
func (r *Result) Worst() *Finding {
	if len(r.Findings) == 0 {
		return nil
	}
	return &r.Findings[0]
}

// Outcome is the worst fault; "fine" if there is none, "unread" if it was not run,
// and "unfinished" if none was found in what was explored, but not all was.
func (r *Result) Outcome() string {
	switch w := r.Worst(); {
	case r.Unread != nil:
		return "unread"
	case w != nil && w.Kind.Fault():
		return string(w.Kind)
	case !r.Complete:
		return "unfinished"
	}
	return "fine"
}

// Fails reports whether any finding is a fault.
func (r *Result) Fails() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Kind.Fault() })
}

var order = []Kind{Deadlock, SelfDeadlock, Orphaned, Crashed, HandlerTwice, HandlerSkipped, HandlerUnprepared, Refused, Torn, LeftLocked}

// gatherer makes findings of endings.
type gatherer struct {
	p        *machine.Program
	r        *Result
	byKey    map[string]*Finding
	found    []*Finding
	overflow bool
}

func (g *gatherer) sorted() []Finding {
	slices.SortStableFunc(g.found, func(a, b *Finding) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(len(a.Events), len(b.Events)))
	})
	var out []Finding
	for _, f := range g.found {
		out = append(out, *f)
	}
	return out
}

// end takes one ending, nearest first.
func (g *gatherer) end(e *machine.Ending) {
	if e.Faults()&machine.Overflow != 0 {
		g.overflow = true
		return
	}
	if e.Crash() >= 0 {
		why := g.crash(e.Crash())
		g.add(e, Crashed, why, why)
		return
	}
	if waits := g.waits(e); len(waits) > 0 {
		kind := g.kind(e)
		g.add(e, kind, fmt.Sprint(waits), g.says(e, kind, waits))
	}
	for _, f := range []struct {
		bit  machine.Fault
		kind Kind
		says string
	}{
		{machine.Twice, HandlerTwice, "a fork handler runs twice in one fork"},
		{machine.Skipped, HandlerSkipped, "a handler that ran before the fork does not run after it"},
		{machine.Unprepared, HandlerUnprepared, "a handler that did not run before the fork runs after it"},
		{machine.Refused, Refused, "a lock is not let go, since the thread does not count as its owner: the child has another number than the thread that took it"},
		{machine.Torn, Torn, "the child goes on with what a vanished thread left half done, which may be damaged: its heap, for instance"},
	} {
		if e.Faults()&f.bit != 0 {
			g.add(e, f.kind, "", f.says)
		}
	}
	if e.Role() == 0 {
		return
	}
	for i, k := range g.p.Locks {
		if k.Elided && e.Plain() {
			continue // nobody would take it
		}
		switch e.Owner(i) {
		case machine.Vanished:
			g.add(e, LeftLocked, k.Name, k.Name+" stays locked in the child: its owner was not copied")
		case machine.Former:
			g.add(e, LeftLocked, k.Name, k.Name+" stays locked in the child: the forking thread took it, and has another number there")
		}
	}
}

func (g *gatherer) crash(n int) string {
	switch n {
	case machine.CrashUnloaded:
		return "code of a library runs that dlclose has taken away"
	case machine.CrashIndex:
		return "fork aborts: the list of handlers has shrunk under it"
	case machine.CrashFreed:
		return "fork goes on from an entry of the list that was freed"
	}
	return g.p.Crashes[n-machine.FirstCrash]
}

func where(e *machine.Ending) Where {
	if e.Role() == 0 {
		return Master
	}
	return Child
}

// add counts a finding; its first ending is the nearest, and is told.
func (g *gatherer) add(e *machine.Ending, kind Kind, what, says string) {
	key := fmt.Sprintf("%s/%d/%s", kind, min(e.Role(), 1), what)
	if f := g.byKey[key]; f != nil {
		f.Ends++
		return
	}
	if len(g.found) == most {
		return
	}
	f := &Finding{Kind: kind, Where: where(e), Says: says, Ends: 1, Events: g.events(e), Process: e.Role()}
	if e.Crash() < 0 {
		f.Waits, f.Cycle, f.Held = g.waits(e), g.cycle(e), g.held(e)
	}
	g.byKey[key] = f
	g.found = append(g.found, f)
}

func (g *gatherer) events(e *machine.Ending) []Event {
	var all []Event
	for _, s := range e.Path() {
		n := g.p.Says[s.Place]
		all = append(all, Event{Thread: s.Thread, Child: s.Role, Call: n.Call, Step: n.Step, Line: n.Line, Forks: s.Child, Quiet: n.Quiet})
	}
	return all
}

func (g *gatherer) owner(e *machine.Ending, lock int) string {
	switch o := e.Owner(lock); o {
	case machine.Nobody:
		return "nobody"
	case machine.Vanished:
		return "a thread that fork did not copy"
	case machine.Former:
		return "the forking thread, by the number that it had in the master"
	default:
		return g.p.Threads[o].Name
	}
}

// waits says for what each thread waits that stands still.
func (g *gatherer) waits(e *machine.Ending) []Wait {
	var all []Wait
	for _, b := range e.Blocked() {
		n := g.p.Says[b.Place]
		w := Wait{Thread: g.p.Threads[b.Thread].Name, Column: b.Thread, Call: n.Call, Line: n.Line}
		switch b.Instr.Op {
		case machine.Lock:
			w.For, w.Owner, w.Lock = g.p.Locks[b.Instr.A].Name, g.owner(e, int(b.Instr.A)), true
		case machine.Await:
			w.For, w.Owner = "semaphore "+g.p.Semaphores[b.Instr.A], "nobody that is left"
		case machine.Join:
			w.For, w.Owner = "the end of "+g.p.Threads[b.Instr.A].Name, g.p.Threads[b.Instr.A].Name
			if e.Gone(int(b.Instr.A)) {
				w.Owner = "a thread that fork did not copy"
			}
		case machine.AwaitUnused:
			w.For, w.Owner = "the end of a fork", g.forking(e, b.Thread)
		default: // asleep until a fork wakes it, which none does
			w.For, w.Owner = "being woken at the end of a fork", g.forking(e, b.Thread)
		}
		all = append(all, w)
	}
	return all
}

// forking is a thread with a fork under way: the waiting one itself, or another.
func (g *gatherer) forking(e *machine.Ending, self int) string {
	if e.Forking(self) {
		return g.p.Threads[self].Name
	}
	for t := range g.p.Threads {
		if e.Forking(t) {
			return g.p.Threads[t].Name
		}
	}
	return "nobody that is left"
}

// kind of a standstill.
func (g *gatherer) kind(e *machine.Ending) Kind {
	kind := Deadlock
	for _, w := range g.waits(e) {
		switch w.Owner {
		case w.Thread:
			return SelfDeadlock
		case "a thread that fork did not copy", "the forking thread, by the number that it had in the master":
			kind = Orphaned
		}
	}
	return kind
}

func (g *gatherer) says(e *machine.Ending, kind Kind, waits []Wait) string {
	who := func(w Wait) string {
		if e.Role() > 0 {
			return "the child"
		}
		return w.Thread
	}
	switch kind {
	case SelfDeadlock:
		for _, w := range waits {
			if w.Owner == w.Thread {
				return who(w) + " waits " + w.Says()
			}
		}
	case Orphaned:
		return "the child waits " + waits[0].Says()
	}
	if c := g.cycle(e); len(c) > 1 {
		return fmt.Sprintf("%s wait for each other", strings.Join(c, ", "))
	}
	return who(waits[0]) + " waits " + waits[0].Says()
}

// last is the innermost call.
func last(call string) string {
	if i := strings.LastIndex(call, " > "); i >= 0 {
		return call[i+3:]
	}
	return call
}

// cycle follows who waits for whom until a thread is met again.
func (g *gatherer) cycle(e *machine.Ending) []string {
	next := make(map[string]string)
	var first []string
	for _, w := range g.waits(e) {
		next[w.Thread] = w.Owner
		first = append(first, w.Thread)
	}
	for _, t := range first {
		var way []string
		for at := t; ; at = next[at] {
			if i := slices.Index(way, at); i >= 0 {
				return way[i:]
			}
			if _, ok := next[at]; !ok {
				break
			}
			way = append(way, at)
		}
	}
	return nil
}

func (g *gatherer) held(e *machine.Ending) []Held {
	var all []Held
	for i, k := range g.p.Locks {
		if e.Owner(i) != machine.Nobody {
			all = append(all, Held{k.Name, g.owner(e, i)})
		}
	}
	return all
}

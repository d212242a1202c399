package provoke

import (
	"slices"
	"time"

	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
)

// How long things are waited for while a lock is held on purpose.
const (
	// tickEvery is how often the job looks whether somebody waits in vain.
	tickEvery = 5 * time.Millisecond
	// blockedLooks is at how many looks in a row a thread has to sleep in a futex to
	// be taken for blocked. CPython asks for its interpreter lock every 5 ms.
	blockedLooks = 3
	// standFor is how long the holder of a lock stands still for a fork that may yet
	// come, and forkWaits how long a fork waits for somebody to take the lock.
	standFor  = 2 * time.Second
	forkWaits = 700 * time.Millisecond
	// maxLockFirst is how often a lock is held before the fork comes; if that was in
	// vain the fork is asked for first, again after askAgain.
	maxLockFirst = 8
	askAgain     = time.Second
	// maxBehind is how often in a row a fork has to wait for another lock of the
	// holder's, until that has given this one back, to be kept from it by that.
	maxBehind = 4
)

// attempt is one try to have the process fork while another thread holds a lock.
// Like the engine it belongs to the tracer's thread.
type attempt struct {
	target *class
	// skip is how many takings are let go by before one is held.
	skip int
	// asks: the fork has to be asked for, once a thread holds the lock.
	asks      bool
	wantsFork bool      // now is the time to ask
	asked     time.Time // zero: not yet

	hold    *hold
	pending map[int]*pending
	returns map[uint64]int

	// forker stands at fork, let is one that was let go with the lock held.
	forker, let         int
	forkerAt, letAt     time.Time
	blocked             int
	guard               int // how often the fork was seen to wait for the lock
	guardedBy           string
	seen, missed, plain int
	// skipForks is how many forks are let go by, cameToFork how many came.
	skipForks, cameToFork int
	// holders are the threads that have one of the locks, by its address.
	holders map[uint64]*hold
	// behind is how often in a row the fork waited for another lock until this one was
	// given back.
	behind int
	// idle is how many calls of its functions did not take it.
	idle int

	done   bool
	result *forced
}

// hold is a lock that a thread has.
type hold struct {
	lock
	tid, inner int
	pointer    uint64
	name       string
	// stands: the thread stands still by an event that was not answered.
	stands bool
	since  time.Time
	// at says where: for a schedule, and for the report.
	at       string
	stops    int // how often it came back from a wait in the kernel
	last     bool
	switches uint64
}

// pending is a thread within a function that takes the lock.
type pending struct {
	lock
	point    *point
	back, sp uint64
}

// forced is a fork that happened while the lock was held, or what was learnt
// instead.
type forced struct {
	child int
	class *class
	// held: in the child the lock is held by a thread that it does not have.
	held bool
	lock lock
	// guarded: the fork waits until the lock is free.
	guarded bool
	by      string
	hold    hold
	order   string
	// taking and fork count what happened since the attempt began, from 1 on.
	taking, fork int
}

// wants reports whether a breakpoint is needed for the attempt.
func (a *attempt) wants(p *point) bool {
	switch {
	case p.function != nil && p.function.role == forks:
		return true
	case a.target == nil:
		return false
	case a.target.own != nil:
		return slices.Contains(p.owns, a.target.own)
	case p.function != nil:
		return p.function.kind == a.target.kind
	}
	return p.stream != noStream && a.target.kind == kindStream
}

// atFork deals with a thread that is about to fork; true says that it stands still
// now, or has been let go.
func (a *attempt) atFork(g *engine, tid int) bool {
	switch {
	case a.done || a.target == nil, a.forker != 0 && a.forker != tid:
		return false
	case tid == a.let:
		// A library's own fork in front of that of the C library.
		return false
	}
	g.forkers[tid] = true
	if a.cameToFork++; a.cameToFork <= a.skipForks {
		return false
	}
	if a.hold != nil && a.hold.tid == tid {
		a.lose(g)
	}
	for _, h := range a.holders {
		switch {
		case a.hold != nil:
		case h.tid == tid:
			a.finish(g, &forced{class: a.target, guarded: true, by: "a fork handler takes it before the C library is called"})
			return false
		case !a.exact():
			// It runs, and stands still at the latest where it gives the lock back.
			a.hold = h
			a.target.takers[h.tid] = h.name
		}
	}
	a.forker, a.forkerAt = tid, time.Now()
	if a.hold != nil && (a.hold.stands || a.stillHeld(g)) {
		a.letGo(g)
	}
	return true
}

// exact reports whether one taking is wanted and no other.
func (a *attempt) exact() bool { return a.skip > a.seen }

// letGo lets the thread at fork go on while another one holds the lock.
func (a *attempt) letGo(g *engine) {
	a.let, a.letAt, a.forker, a.blocked = a.forker, time.Now(), 0, 0
	g.pass(a.let)
}

// atFunction deals with a thread at the first instruction of a function; false says
// that it is to go on.
func (a *attempt) atFunction(g *engine, p *point, tid int, regs *ptrace.Regs) bool {
	if a.done || a.target == nil {
		return false
	}
	if p.function != nil && p.function.role == releases {
		if h := a.holders[argument(regs, 0)+p.word]; h != nil && h.tid == tid && h != a.hold {
			delete(a.holders, h.addr)
		}
	}
	if h := a.hold; h != nil {
		if h.tid != tid || p.function == nil || p.function.role != releases || argument(regs, 0)+p.word != h.addr {
			return false
		}
		return a.atRelease(g)
	}
	if a.target.own != nil {
		if g.forking(tid) || g.step != nil {
			return false
		}
		if !slices.Contains(p.owns, a.target.own) {
			return false
		}
		return g.beginSteps(tid, regs, a.words(g), a.stepped)
	}
	l, ok := g.target(p, regs)
	if !ok || p.function != nil && p.function.role == releases {
		return false
	}
	if c := g.classOf(p, l, nil, tid, regs); c != a.target {
		return false
	}
	if p.function == nil {
		if g.forking(tid) || g.step != nil {
			return false
		}
		return g.beginSteps(tid, regs, []watched{{lock: l}}, a.stepped)
	}
	back, err := returnAddress(regs, g.v.mem)
	if err != nil {
		return false
	}
	if a.returns[back] == 0 && g.points[back] == nil {
		if g.s.SetBreakpoint(g.pid, back) != nil {
			return false
		}
	}
	if was := a.pending[tid]; was != nil {
		return false // a lock within the lock's own function
	}
	a.returns[back]++
	a.pending[tid] = &pending{lock: l, point: p, back: back, sp: returned(stackPointer(regs))}
	return false
}

// returnedTo deals with a thread that came back from a function that takes the
// lock; false says that it is at no such place.
func (a *attempt) returnedTo(g *engine, e ptrace.Event) bool {
	if a.returns[e.Addr] == 0 {
		return false
	}
	p := a.pending[e.TID]
	regs, err := g.s.Regs(e.TID)
	if p == nil || err != nil || p.back != e.Addr || stackPointer(&regs) != p.sp {
		if g.points[e.Addr] != nil {
			return false
		}
		g.pass(e.TID) // another thread, or a call within the call
		return true
	}
	delete(a.pending, e.TID)
	if a.returns[e.Addr]--; a.returns[e.Addr] == 0 {
		delete(a.returns, e.Addr)
		if g.points[e.Addr] == nil {
			_ = g.s.ClearBreakpoint(g.pid, e.Addr) // it is passed silently otherwise
		}
	}
	s, err := p.read(g.v.mem, g.v.libc.Family)
	got := err == nil && s.held && g.succeeded(p.point, &regs) && (s.owner == 0 || s.owner == g.innerID(e.TID)) && (s.pointer == 0 || threadPointer(&regs) == 0 || s.pointer == threadPointer(&regs))
	if got {
		a.holders[p.addr] = a.newHold(g, e.TID, p.lock, &regs)
	}
	if !got || g.forking(e.TID) || !a.take(g, e.TID, p.lock, &regs, "lock taken") {
		g.pass(e.TID)
	}
	return true
}

// succeeded reports whether a function that takes a lock says that it did.
func (g *engine) succeeded(p *point, regs *ptrace.Regs) bool {
	switch {
	case p.function.kind == kindPython:
		// True is the int 1, of which the first digit lies behind the tag (CPython 3.12
		// and later, Include/cpython/longintrepr.h).
		v, err := procmem.Uint32(g.v.mem, result(regs)+24)
		return err == nil && v == 1
	case p.name == "flockfile":
		return true // it returns nothing
	}
	return uint32(result(regs)) == 0
}

// take notes that a thread has the lock; false says that it may go on with it.
func (a *attempt) take(g *engine, tid int, l lock, regs *ptrace.Regs, at string) bool {
	if a.hold != nil || a.done {
		return false
	}
	if a.seen++; a.seen <= a.skip {
		return false
	}
	if a.asks && a.missed >= maxLockFirst && a.forker == 0 {
		// Who forks needs what the holder has before it comes to fork: it has to be
		// there first.
		a.wantsFork = time.Since(a.asked) > askAgain
		return false
	}
	a.hold = a.newHold(g, tid, l, regs)
	a.target.takers[tid] = a.hold.name
	a.hold.stands, a.hold.at = true, at
	a.blocked = 0
	if a.forker != 0 {
		a.letGo(g)
	} else if a.asks {
		a.wantsFork = true
	}
	return true
}

func (a *attempt) newHold(g *engine, tid int, l lock, regs *ptrace.Regs) *hold {
	return &hold{lock: l, tid: tid, inner: g.innerID(tid), pointer: threadPointer(regs), name: g.threadName(tid, regs), since: time.Now(), at: "running, with the lock taken"}
}

// atRelease deals with the holder at the function that gives the lock back. It
// stands there once more, for a fork that its way here has made possible.
func (a *attempt) atRelease(g *engine) bool {
	h := a.hold
	if a.let != 0 && a.guard > 0 {
		// The fork waits for the lock: it gets it.
		delete(a.holders, h.addr)
		a.hold = nil
		return false
	}
	if a.forker == 0 && h.last {
		delete(a.holders, h.addr)
		a.hold = nil
		a.missed++
		return false
	}
	h.last, h.stands, h.since, h.at, a.blocked = true, true, time.Now(), "about to give it back", 0
	if a.forker != 0 {
		a.letGo(g)
	}
	return true
}

// words are where the lock of the C library's own is that is wanted.
func (a *attempt) words(g *engine) []watched {
	var out []watched
	for _, l := range g.v.words(a.target.own) {
		out = append(out, watched{lock: l})
	}
	return out
}

// maxIdle is how many calls are followed that do not take the lock.
const maxIdle = 150

// stepped deals with a thread that was followed instruction by instruction: it has
// the lock now, or came back without. True says that it stands still.
func (a *attempt) stepped(g *engine, tid int, w *watched, regs *ptrace.Regs) bool {
	if w == nil {
		a.idle++
		return false
	}
	return a.take(g, tid, w.lock, regs, "lock taken")
}

package provoke

import (
	"slices"
	"strings"

	"forkproof/internal/ptrace"
)

// What learning may cost: in each slice of time a function is watched for so many
// calls, then left alone until the next; one that was called so often in all is not
// watched any more. A stop and its going on take some 20 µs.
const (
	hitsPerSlice = 200
	hitsInAll    = 4000
	// followFor is how many instructions are followed to see whether a function takes
	// the locks of the C library's own that it may take.
	followFor = 60_000
)

// learn notes what a thread is about to do to a lock. True says that the thread is
// being followed.
func (g *engine) learn(p *point, tid int, regs *ptrace.Regs) bool {
	if p.hits >= hitsPerSlice || p.all >= hitsInAll {
		_ = g.s.ClearBreakpoint(g.pid, p.addr) // it stays for a slice longer otherwise
		p.resting = true
	}
	if g.forking(tid) {
		return false // what the thread that forks has, its copy in the child has too
	}
	if len(p.owns) > 0 {
		return g.follow(p, tid, regs)
	}
	l, ok := g.target(p, regs)
	if !ok {
		return false
	}
	at := holding{tid, lockKey{l.kind, l.addr}}
	switch {
	case p.function == nil:
		if c := g.classOf(p, l, nil, tid, regs); c != nil {
			c.sure = true
			g.sighted(c, tid, regs)
		}
	case p.function.role == releases:
		// Only who took it himself has it for himself: semaphores, and locks of
		// Python's, are also used to wake another thread.
		if g.asked[at] {
			delete(g.asked, at)
			g.known[at.lockKey].sure = true
		}
	default:
		c := g.classOf(p, l, nil, tid, regs)
		if c == nil {
			return false
		}
		g.asked[at] = true
		g.sighted(c, tid, regs)
	}
	return false
}

// follow sees which locks of the C library's own a call takes. What it may take is
// not always what it does: malloc seldom leaves the thread's own cache.
func (g *engine) follow(p *point, tid int, regs *ptrace.Regs) bool {
	var words []watched
	for _, o := range p.owns {
		if c := g.known[lockKey{kindLibc, ownKey(o)}]; c != nil && c.sure {
			g.sighted(c, tid, regs)
			continue
		}
		for _, l := range g.v.words(o) {
			words = append(words, watched{l, o})
		}
	}
	if len(words) == 0 || g.followed[p] >= followFor {
		if len(p.owns) == 1 && p.all > hitsPerSlice {
			_ = g.s.ClearBreakpoint(g.pid, p.addr) // it has told all that it can
		}
		return false
	}
	before := g.steps
	return g.beginSteps(tid, regs, words, func(g *engine, tid int, w *watched, _ *ptrace.Regs) bool {
		g.followed[p] += g.steps - before
		if w != nil {
			if c := g.classOf(p, w.lock, w.own, tid, regs); c != nil {
				c.sure = true
				g.sighted(c, tid, regs)
			}
		}
		return false
	})
}

// sighted counts a taking, and names the thread at the first.
func (g *engine) sighted(c *class, tid int, regs *ptrace.Regs) {
	c.taken++
	if c.takers[tid] == "" {
		c.takers[tid] = g.threadName(tid, regs)
	}
}

// slice begins a new slice of time: what rested is watched again.
func (g *engine) slice() {
	g.forget()
	for _, p := range g.points {
		p.hits = 0
		if p.resting && p.all < hitsInAll {
			p.resting = g.s.SetBreakpoint(g.pid, p.addr) != nil
		}
	}
}

// found are the locks that other threads than forking ones hold at times, in the
// order in which they were first seen.
//
// Left out are the mutexes of Python's interpreter lock: all threads take them all
// the time, and CPython makes them anew in the child (Python/ceval_gil.c,
// _PyEval_ReInitThreads).
func (b *book) found() []*class {
	return slices.DeleteFunc(slices.Clone(b.ordered), func(c *class) bool { return !c.sure || strings.HasPrefix(c.id, gilID) })
}

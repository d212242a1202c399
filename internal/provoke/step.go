package provoke

import (
	"time"

	"forkproof/internal/ptrace"
)

// Most locks of the C library's own are taken by an instruction in the middle of a
// function that has no name, and no breakpoint can be put there. So a thread that
// enters a function which takes one is let go instruction by instruction until the
// lock's word is not zero any more. It leaves nothing behind in the process,
// whatever happens to forkproof; a watchpoint of the processor would.

// stepper is such a thread; there is one at a time.
type stepper struct {
	tid    int
	words  []watched
	pc, sp uint64
	left   int
	began  time.Time
	// done is called when it has a lock, or without one when it came back or was
	// followed for too long. True says that it stands still from now on.
	done func(g *engine, tid int, w *watched, regs *ptrace.Regs) bool
}

// watched is a lock that it may take.
type watched struct {
	lock
	own *own
}

// maxSteps bounds how many instructions a thread makes one by one in one call.
const maxSteps = 40_000

// maxFollow bounds how long one call is followed: it may sleep in the kernel, and a
// thread that ended there is not told of.
const maxFollow = 1500 * time.Millisecond

// forget gives up a thread that was followed for too long. It goes on by itself at
// its next step.
func (g *engine) forget() {
	if g.step != nil && time.Since(g.step.began) > maxFollow {
		g.step = nil
		g.unpark()
	}
}

// beginSteps has a thread that stands at the first instruction of a function make
// one instruction after the other; false says that it may go on.
func (g *engine) beginSteps(tid int, regs *ptrace.Regs, words []watched, done func(*engine, int, *watched, *ptrace.Regs) bool) bool {
	var free []watched
	for _, w := range words {
		if s, err := w.read(g.v.mem, g.v.libc.Family); err == nil && !s.held {
			free = append(free, w) // somebody else has the others
		}
	}
	if g.step != nil || len(free) == 0 {
		return false
	}
	st := &stepper{tid: tid, words: free, sp: stackPointer(regs), pc: regs.PC(), left: maxSteps, began: time.Now(), done: done}
	if g.s.PassBreakpoint(tid) != nil {
		return false
	}
	if r, err := g.s.Regs(tid); err == nil {
		st.pc = r.PC()
	}
	if g.s.Step(tid) != nil {
		g.goOn(tid)
		return true
	}
	g.step = st
	return true
}

// stepped deals with a thread that made one instruction.
func (g *engine) stepped(tid int) {
	st := g.step
	if st == nil || st.tid != tid {
		g.goOn(tid)
		return
	}
	regs, err := g.s.Regs(tid)
	if err != nil {
		g.step = nil
		g.goOn(tid)
		return
	}
	g.steps++
	for i := range st.words {
		w := &st.words[i]
		s, err := w.read(g.v.mem, g.v.libc.Family)
		if err != nil || !s.held || !atomic(g.v.mem, st.pc) {
			continue // another thread took it, if anybody
		}
		g.step = nil
		if !st.done(g, tid, w, &regs) {
			g.goOn(tid)
		}
		return
	}
	if st.left--; st.left <= 0 || stackPointer(&regs) > st.sp {
		g.step = nil // it came back
		if !st.done(g, tid, nil, &regs) {
			g.goOn(tid)
		}
		return
	}
	st.pc = regs.PC()
	if g.s.Step(tid) != nil {
		g.step = nil
	}
}

package provoke

import (
	"fmt"
	"time"

	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
)

// stillHeld looks whether the holder has the lock yet.
func (a *attempt) stillHeld(g *engine) bool {
	s, err := a.hold.read(g.v.mem, g.v.libc.Family)
	return err == nil && a.hold.owns(s)
}

// owns reports whether a state is that of a lock which this thread holds, as far as
// the lock tells.
func (h *hold) owns(s state) bool {
	return s.held && (s.owner == 0 || h.inner == 0 || s.owner == h.inner) && (s.pointer == 0 || h.pointer == 0 || s.pointer == h.pointer)
}

// call deals with a system call of the holder, which is let go from one to the
// next: where it slept in one, others may have come to where they can fork.
func (g *engine) call(e ptrace.Event) {
	a := g.a
	if a == nil || a.hold == nil || a.hold.tid != e.TID {
		g.goOn(e.TID)
		return
	}
	h := a.hold
	switches := uint64(0)
	if st, err := g.fs.TaskStatus(g.pid, e.TID); err == nil {
		switches = st.Switches
	}
	if e.Kind == ptrace.SyscallEntry {
		h.switches = switches
		_ = g.s.Syscalls(e.TID) // one that cannot, ended
		return
	}
	if !a.stillHeld(g) {
		delete(a.holders, h.addr)
		a.hold = nil
		a.missed++
		g.goOn(e.TID)
		return
	}
	// Each stop of ours counts as a switch, too.
	slept := switches > h.switches+1
	if a.forker != 0 || a.let != 0 && a.guard == 0 || slept {
		h.stops++
		h.stands, h.since, h.at, a.blocked = true, time.Now(), fmt.Sprintf("back from wait %d in the kernel", h.stops), 0
		if a.forker != 0 {
			a.letGo(g)
		}
		return
	}
	_ = g.s.Syscalls(e.TID) // one that cannot, ended
}

// walk lets the holder go on, still under watch.
func (a *attempt) walk(g *engine) {
	h := a.hold
	if !h.stands {
		return
	}
	h.stands = false
	_ = g.s.PassBreakpoint(h.tid) // one that cannot, ended
	_ = g.s.Syscalls(h.tid)
}

// lose gives up a hold.
func (a *attempt) lose(g *engine) {
	h := a.hold
	a.hold = nil
	if h != nil {
		delete(a.holders, h.addr)
		if h.stands {
			g.pass(h.tid)
		}
	}
}

// born deals with a fork: e.Child does not run yet, and its memory is that of the
// instant.
func (a *attempt) born(g *engine, e ptrace.Event) {
	if a.done {
		return
	}
	if a.let != e.TID || a.hold == nil && a.guard == 0 {
		a.plain++
		if a.let == e.TID {
			a.let = 0
		}
		if a.target == nil { // any fork will do
			a.finish(g, &forced{child: e.Child})
		}
		return
	}
	f := &forced{child: e.Child, class: a.target, fork: a.cameToFork, taking: a.seen}
	if h := a.hold; h != nil {
		s, err := h.read(procmem.Open(e.Child), g.v.libc.Family)
		f.lock, f.hold = h.lock, *h
		f.held = err == nil && h.owns(s)
		if now := a.holders[h.addr]; now != nil && now.tid == e.TID || a.guard > 0 && s.owner == 0 && s.pointer == 0 {
			f.held = false // who forks has it by now
		}
		f.order = "lock first"
		if a.forkerAt.Before(h.since) {
			f.order = "fork first"
		}
	}
	if !f.held && a.guard > 0 {
		f.guarded, f.by = true, a.guardedBy
	}
	a.let = 0
	if !f.held && !f.guarded {
		a.plain++
		a.lose(g)
		return
	}
	a.finish(g, f)
}

// finish ends the attempt: whoever stands still goes on.
func (a *attempt) finish(g *engine, f *forced) {
	a.result = f
	a.release(g)
}

func (a *attempt) release(g *engine) {
	a.done = true
	a.lose(g)
	if a.forker != 0 {
		tid := a.forker
		a.forker = 0
		g.pass(tid)
	}
}

// tick looks after those that wait for each other.
func (a *attempt) tick(g *engine) {
	if a.done || g.ended {
		return
	}
	g.forget()
	now := time.Now()
	switch h := a.hold; {
	case a.let != 0 && h != nil:
		f, asleep := g.asleep(a.let)
		if !asleep {
			a.blocked = 0
			return
		}
		if a.blocked++; a.blocked < blockedLooks || !h.stands {
			return
		}
		// fork itself, or a handler, waits until the lock is free.
		a.guard++
		a.guardedBy = "fork itself waits until it is free"
		if !h.covers(f.Addr, g.v.mem, g.v.libc.Family) {
			a.guardedBy = "fork waits for another lock that the thread holds too"
		}
		if h.last {
			a.lose(g)
		} else {
			a.walk(g)
		}
	case a.forker != 0 && h == nil:
		if now.Sub(a.forkerAt) > forkWaits {
			tid := a.forker
			a.forker = 0
			g.pass(tid)
		}
	case h != nil && h.stands && a.let == 0:
		if a.asks && a.asked.IsZero() {
			return // the fork has not been asked for yet
		}
		all, behind := true, true
		for _, tid := range g.forkingThreads() {
			f, asleep := g.asleep(tid)
			all = all && asleep
			behind = behind && asleep && !f.Timeout && !(f.Addr >= g.v.gil.Start && f.Addr < g.v.gil.End)
			if asleep && h.covers(f.Addr, g.v.mem, g.v.libc.Family) {
				a.guard, a.guardedBy = 1, "the fork waits until it is free, before it calls the C library"
			}
		}
		if !all {
			a.blocked = 0
		} else {
			a.blocked++
		}
		if a.blocked >= blockedLooks || now.Sub(h.since) > standFor {
			a.blocked = 0
			if h.last {
				a.lose(g)
				a.missed++
				if a.behind++; !behind {
					a.behind = 0
				}
				if a.behind >= maxBehind {
					a.finish(g, &forced{class: a.target, guarded: true, by: "each time a thread held it, the fork waited for another lock of that thread's until it was given back"})
				}
			} else {
				a.walk(g)
			}
		}
	}
}

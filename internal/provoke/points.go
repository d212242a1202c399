package provoke

import (
	"encoding/binary"
	"fmt"
	"slices"

	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
)

// point is a breakpoint at the first instruction of a function.
type point struct {
	addr     uint64
	name     string
	function *function // nil for one that takes a lock of the C library's own
	owns     []*own
	stream   int // the argument that is a stream, -1 for stdout; noStream for none
	// word is how far behind its argument the lock is.
	word uint64
	// hits are those of this slice of time, all those of the whole phase.
	hits, all int
	resting   bool
}

const noStream = -2

// set puts in breakpoints: at fork, and at the functions that want says.
func (g *engine) set(want func(p *point) bool) error {
	if g.v == nil {
		if err := g.look(); err != nil {
			return err
		}
	}
	for i := range lockFunctions {
		f := &lockFunctions[i]
		for _, name := range f.names {
			for _, addr := range g.v.addresses(name) {
				g.add(&point{addr: addr, name: name, function: f, stream: noStream}, want)
			}
		}
	}
	if h := g.v.names(); h != nil {
		for _, m := range h.Methods() {
			p := &point{addr: m.Addr, name: m.Name, function: &pythonReleases, stream: noStream, word: m.WordAt}
			if m.Takes {
				p.function = &pythonTakes
			}
			g.add(p, want)
		}
	}
	if g.v.libc.Family != "glibc" {
		return nil // the words of no other library's own locks are known
	}
	for i := range ownLocks {
		o := &ownLocks[i]
		if len(g.v.words(o)) == 0 {
			continue
		}
		for _, name := range o.functions {
			for _, addr := range g.v.addresses(name) {
				g.add(&point{addr: addr, name: name, owns: []*own{o}, stream: noStream}, want)
			}
		}
	}
	for _, f := range streamFunctions {
		for _, name := range f.names {
			for _, addr := range g.v.addresses(name) {
				g.add(&point{addr: addr, name: name, stream: f.argument}, want)
			}
		}
	}
	return nil
}

// add puts in one breakpoint. A function that takes several locks has one.
func (g *engine) add(p *point, want func(*point) bool) {
	if was, ok := g.points[p.addr]; ok {
		for _, o := range p.owns {
			if !slices.Contains(was.owns, o) && want(p) {
				was.owns = append(was.owns, o)
			}
		}
		return
	}
	if !want(p) {
		return
	}
	if err := g.s.SetBreakpoint(g.pid, p.addr); err != nil {
		return // what cannot be watched is not learnt of, and not reached
	}
	g.points[p.addr] = p
}

// clear takes all breakpoints out.
func (g *engine) clear() {
	_ = g.s.ClearAll(g.pid) // gone is as good
	g.points = make(map[uint64]*point)
}

// awaitStart has the program stop where the dynamic loader has done its work: at
// its first instruction.
func (g *engine) awaitStart() {
	if g.want == nil {
		return
	}
	entry, err := entryPoint(g.fs, g.pid)
	if err == nil && g.s.SetBreakpoint(g.pid, entry) == nil {
		g.entry = entry
	}
}

// started deals with a program at its first instruction. Locks are of interest once
// there is a second thread, and what comes before that is the most of many programs.
func (g *engine) started() {
	_ = g.s.ClearBreakpoint(g.pid, g.entry) // it is passed silently otherwise
	g.entry = 0
	if g.look() != nil {
		return // it ended
	}
	for _, addr := range g.v.addresses("pthread_create") {
		g.add(&point{addr: addr, name: threadMaker, stream: noStream}, func(*point) bool { return true })
	}
}

const threadMaker = "pthread_create"

// arm puts in the breakpoints that are wanted.
func (g *engine) arm() {
	for addr, p := range g.points {
		if p.name == threadMaker {
			_ = g.s.ClearBreakpoint(g.pid, addr) // it is passed silently otherwise
			delete(g.points, addr)
		}
	}
	if g.look() == nil && g.want != nil {
		_ = g.set(g.want) // a process that ended tells so itself
	}
}

// entryPoint is the first instruction of the program that a process runs
// (AT_ENTRY of the auxiliary vector, getauxval(3)).
func entryPoint(fs proc.FS, pid int) (uint64, error) {
	b, err := fs.Read(pid, "auxv")
	if err != nil {
		return 0, err
	}
	const atEntry = 9
	for ; len(b) >= 16; b = b[16:] {
		if binary.LittleEndian.Uint64(b) == atEntry {
			return binary.LittleEndian.Uint64(b[8:]), nil
		}
	}
	return 0, fmt.Errorf("the auxiliary vector of process %d has no entry point", pid)
}

// came deals with a thread that stands at the first instruction of a function.
func (g *engine) came(e ptrace.Event) {
	p := g.points[e.Addr]
	switch {
	case e.Addr == g.entry && g.entry != 0:
		g.started()
		g.pass(e.TID)
		return
	case p != nil && p.name == threadMaker:
		g.arm()
		g.pass(e.TID)
		return
	}
	if g.a != nil && g.a.returnedTo(g, e) {
		return
	}
	if st := g.step; st != nil && st.tid == e.TID {
		// A function within the one that is followed.
		_ = g.s.PassBreakpoint(e.TID) // one that cannot, ended
		if g.s.Step(e.TID) != nil {
			g.step = nil
		}
		return
	}
	if p == nil {
		g.pass(e.TID)
		return
	}
	p.hits++
	p.all++
	regs, err := g.s.Regs(e.TID)
	if err != nil {
		g.pass(e.TID)
		return
	}
	if p.function != nil && p.function.role == forks {
		if g.learning && g.step != nil && g.parked == 0 {
			g.parked = e.TID // the program may end before the thread that is followed has shown anything
			return
		}
		if g.a == nil || !g.a.atFork(g, e.TID) {
			g.forkers[e.TID] = true
			g.pass(e.TID)
		}
		return
	}
	if g.a != nil {
		if !g.a.atFunction(g, p, e.TID, &regs) {
			g.pass(e.TID)
		}
		return
	}
	if !g.learning || !g.learn(p, e.TID, &regs) {
		g.pass(e.TID)
	}
}

// pass lets a thread go over the breakpoint that it stands at, and on.
func (g *engine) pass(tid int) {
	_ = g.s.PassBreakpoint(tid) // one that cannot, ended
	g.goOn(tid)
}

// target is the lock that a function is called with; ok is false where it is none.
func (g *engine) target(p *point, regs *ptrace.Regs) (lock, bool) {
	switch {
	case p.function != nil:
		l := lock{kind: p.function.kind, addr: argument(regs, 0) + p.word}
		return l, l.addr != p.word
	case p.stream == -1:
		for _, mod := range g.v.holders(false) {
			if s, ok := mod.Table.ByName("stdout"); ok {
				at, err := procmem.Uint64(g.v.mem, s.Value+mod.Bias)
				return lock{kind: kindStream, addr: at}, err == nil && at != 0
			}
		}
	case p.stream >= 0:
		l := lock{kind: kindStream, addr: argument(regs, p.stream)}
		return l, l.addr != 0
	}
	return lock{}, false
}

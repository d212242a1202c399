package trace

import (
	"path/filepath"
	"slices"
	"time"

	"forkproof/internal/libc"
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
	"forkproof/internal/symbol"
	"forkproof/internal/unwind"
)

const (
	// maxSteps bounds how many instructions of a child are followed through its
	// fork handlers: some seconds at ten microseconds each.
	maxSteps = 300_000
	// stepPatience is how long one instruction may take before the child is taken
	// for one that waits in it.
	stepPatience = 200 * time.Millisecond
	// maxNamed bounds how many functions are named of one handler.
	maxNamed = 64
)

// followHandlers lets the child make its way out of fork, instruction by
// instruction, and notes which functions its fork handlers call. No other thread
// or process is held up by it, and no breakpoint is needed: the child has not
// made its first instruction yet. Prepare handlers have run by then, and the
// parent's run in the parent, which goes on already.
func (l *look) followHandlers() {
	starts := make(map[uint64]int)
	for i, h := range l.handlers {
		if h.Child != 0 {
			starts[h.Child] = i
		}
	}
	out, ok := l.outside()
	if len(starts) == 0 || !ok {
		return
	}
	l.called = make([][]string, len(l.handlers))
	s, pid := l.j.s, l.e.Child
	came := make(chan bool, 1)
	l.j.stepping(pid, came)
	defer l.j.stepping(0, nil)
	defer func() { // a function may be registered several times
		for i, h := range l.handlers {
			if h.Child != 0 {
				l.called[i] = l.called[starts[h.Child]]
			}
		}
	}()
	inside, back := -1, uint64(0)
	for range maxSteps {
		r, err := s.Regs(pid)
		if err != nil {
			return
		}
		at := r.PC()
		i, starting := starts[at]
		switch {
		case at == out.PC && ptrace.SP(&r) >= out.SP:
			return
		case inside < 0 && starting:
			inside, back = i, l.returns(&r)
		case inside >= 0 && at == back:
			inside = -1
		case inside >= 0:
			l.note(inside, at)
		}
		if s.Step(pid) != nil {
			return
		}
		select {
		case ok := <-came:
			if !ok {
				return // it ended
			}
		case <-time.After(stepPatience):
			if inside >= 0 {
				l.called[inside] = append(l.called[inside], "(and waits there)")
			}
			l.waits = true
			return
		}
	}
	l.f.LeftOut = append(l.f.LeftOut, "the end of what its fork handlers call: they make too many steps")
}

// outside is the frame in which the forking thread goes on when fork returns.
func (l *look) outside() (unwind.Frame, bool) {
	for _, f := range l.unwind(&l.c.self) {
		if f.Module == nil {
			return f, false
		}
		if !slices.ContainsFunc(l.v.libcs, func(m *unwind.Module) bool { return m.Name == f.Module.Name }) {
			return f, !f.Guessed
		}
	}
	return unwind.Frame{}, false
}

// returns is where the function returns to that is about to begin.
func (l *look) returns(r *ptrace.Regs) uint64 {
	if arch == "arm64" {
		const link = 30
		regs := unwind.FromPtrace(r)
		ra, _ := regs.Get(link)
		return ra
	}
	ra, _ := procmem.Uint64(l.mem, ptrace.SP(r))
	return ra
}

// note adds the function that begins at an address, if one does. What the loader
// does to find a function at its first call is not the handler's doing.
func (l *look) note(handler int, at uint64) {
	mod, ok := l.v.module(at)
	if !ok || libc.Loader(filepath.Base(mod.Name)) || len(l.called[handler]) >= maxNamed {
		return
	}
	sym, ok := mod.Table.Lookup(at - mod.Bias)
	if !ok || sym.Value != at-mod.Bias {
		return
	}
	if n := symbol.Demangle(sym.Name); !slices.Contains(l.called[handler], n) {
		l.called[handler] = append(l.called[handler], n)
	}
}

// stepping says of which process single steps are followed, and by whom.
func (j *job) stepping(pid int, came chan<- bool) {
	mu.Lock()
	j.stepped, j.came = pid, came
	mu.Unlock()
}

// step hands on that the process that is stepped made a step, or ended. It works
// on the tracer's thread.
func (j *job) step(e ptrace.Event) bool {
	mu.Lock()
	defer mu.Unlock()
	if e.PID != j.stepped || j.came == nil {
		if e.Kind == ptrace.Stepped { // one that took too long
			_ = j.s.Syscalls(e.TID)
			return true
		}
		return false
	}
	select {
	case j.came <- e.Kind == ptrace.Stepped:
	default:
	}
	return e.Kind == ptrace.Stepped
}

package inspect

import (
	"forkproof/internal/deadlock"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/pystack"
)

// faults are signals that a program does not wait for: those of its own errors
// (ILL 4, TRAP 5, ABRT 6, BUS 7, FPE 8, SEGV 11, SYS 31) and glibc's two own
// (32, 33).
const faults = 1<<(4-1) | 1<<(5-1) | 1<<(6-1) | 1<<(7-1) | 1<<(8-1) | 1<<(11-1) | 1<<(31-1) | 1<<(32-1) | 1<<(33-1)

// observation is a snapshot for the proofs, with what each thread waits for.
type observation struct {
	snapshot deadlock.Process
	waits    map[int]libc.Waiting
}

// observe turns what was read of a process into the plain data that the proofs
// judge; quick is true where no thread sleeps in a futex, so that nothing can
// follow.
func (j *job) observe(p *process) (o observation, quick bool) {
	o.waits = make(map[int]libc.Waiting)
	quick = true
	if !p.sameThreads() {
		return o, true
	}
	for _, tid := range p.tids {
		if _, ok := futexOf(p.looks[1][tid].call); ok {
			quick = false
		}
	}
	if quick || p.load() != nil {
		return o, true
	}
	s := &o.snapshot
	blocked := ^uint64(0)
	s.SurvivorKnown = true
	// The survivor of a fork is the process's first thread. Later ones may sit
	// on the stack, and so at the thread pointer, that a vanished thread had.
	var survivor uint64
	for _, tid := range p.tids {
		g := p.looks[1][tid]
		blocked &= g.status.SigBlk
		s.Handlers = s.Handlers || g.status.SigCgt&^uint64(faults) != 0
		head, err := proc.RobustList(tid)
		if err != nil || head == 0 {
			s.SurvivorKnown = false
		} else {
			if tid == p.pid {
				survivor = head
			}
			// The thread's own idea of its id, which a raw clone leaves stale.
			if own, err := procmem.Uint32(p.mem, head-16); err == nil {
				s.SurvivorWas = append(s.SurvivorWas, int(own))
			} else {
				s.SurvivorKnown = false
			}
		}
		s.Threads = append(s.Threads, j.thread(p, tid, o.waits))
	}
	s.Handlers = s.Handlers && p.looks[1][p.tids[0]].status.SigCgt&^uint64(faults)&^blocked != 0
	s.Alone = j.alone(p)
	if m, ok := p.parent(); ok && m.err == nil {
		s.Forked = true
		found := false
		for _, tid := range m.tids {
			if head, err := proc.RobustList(tid); err == nil && head == survivor && head != 0 {
				s.SurvivorWas = append(s.SurvivorWas, m.looks[1][tid].status.InnerPID())
				found = true
			}
		}
		// The thread that forked may have ended since; the master's main thread
		// is kept as the likeliest.
		if !found {
			s.SurvivorKnown = false
		}
	} else {
		// Whoever forked this process is gone, or it was not forked: then a
		// stale owner is told by the thread's own record alone, which fork
		// rewrites.
		s.SurvivorKnown = false
	}
	if a, b := p.gil[0], p.gil[1]; a != nil && b != nil {
		gone := true
		for _, tid := range p.tids {
			head, err := proc.RobustList(tid)
			if err != nil || head == 0 || libc.ThreadPointer(head) == b.Ident {
				gone = false
			}
		}
		s.GIL = &deadlock.GIL{Locked: a.Locked && b.Locked, Still: *a == *b, HolderGone: gone && b.Ident != 0, HolderTID: int(b.NativeID)}
		for i := range s.Threads {
			s.Threads[i].OnGIL = s.Threads[i].Futex && b.Covers(s.Threads[i].Addr)
		}
	}
	return o, false
}

// thread reads one thread for the proofs.
func (j *job) thread(p *process, tid int, waits map[int]libc.Waiting) deadlock.Thread {
	g := p.looks[1][tid]
	t := deadlock.Thread{TID: tid, Inner: g.status.InnerPID(), Name: g.status.Name, Still: p.still(tid)}
	f, ok := futexOf(g.call)
	if !ok {
		return t
	}
	t.Futex, t.Addr, t.Timeout, t.Private = true, f.Addr, f.Timeout, f.Private()
	// glibc waits on robust mutexes and for threads to end by the shared
	// operation, though they lie in private memory: there the kernel keys the
	// futex by this very address space (kernel/futex/core.c, get_futex_key).
	m, found := proc.Find(p.maps, f.Addr)
	t.Private = found && !m.Shared && (t.Private || m.Write)
	if !t.Private || t.Timeout || !t.Still {
		return t
	}
	callers := p.callers(tid)
	w := libc.Classify(f, callers, p.mem, p.libcID)
	if py, ok := p.pyThread(tid); ok && (w.Kind == "semaphore" || w.Kind == "futex") && pythonWaits(callers) {
		w.Kind = "python-lock"
		switch pystack.WaitsFor(py.Frames, p.functions(tid)) {
		case pystack.Acquire:
			w.Exclusive, w.State = true, "held"
		case pystack.Event:
			w.Exclusive, w.State = false, "waits for an event"
		}
	}
	waits[tid] = w
	t.Lock, t.Owner, t.Shared, t.Exclusive = w.Kind, w.OwnerTID, w.Shared, w.Exclusive
	return t
}

// pythonWaits reports whether the function that sleeps was called by the
// interpreter itself and not by a library it loaded.
func pythonWaits(callers []libc.Caller) bool {
	for _, c := range callers {
		if libc.Named(c.Object) != "" || libc.Loader(c.Object) {
			continue
		}
		return len(c.Object) > 5 && (c.Object[:6] == "python" || len(c.Object) > 8 && c.Object[:9] == "libpython")
	}
	return false
}

// alone reports whether no other process shares the target's memory.
func (j *job) alone(p *process) bool {
	me, err := j.fs.Stat(p.pid)
	if err != nil {
		return false
	}
	for _, o := range j.all {
		if o.ID.PID == p.pid {
			continue
		}
		same, err := proc.SharesMemory(p.pid, o.ID.PID)
		switch {
		case proc.IsGone(err):
		case err != nil:
			// We may not ask. Processes that share memory have the same size,
			// which everybody may read.
			if st, e := j.fs.Stat(o.ID.PID); e == nil && st.VSize == me.VSize {
				return false
			}
		case same:
			return false
		}
	}
	return true
}

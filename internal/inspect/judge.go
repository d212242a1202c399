package inspect

import (
	"fmt"
	"slices"
	"time"

	"forkproof/internal/cpython"
	"forkproof/internal/deadlock"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
)

// faults are signals that a program does not wait for: those of its own errors
// (ILL 4, TRAP 5, ABRT 6, BUS 7, FPE 8, SEGV 11, SYS 31) and glibc's two own
// (32, 33).
const faults = 1<<(4-1) | 1<<(5-1) | 1<<(6-1) | 1<<(7-1) | 1<<(8-1) | 1<<(11-1) | 1<<(31-1) | 1<<(32-1) | 1<<(33-1)

// wait is what a thread waits for.
type wait struct {
	libc.Waiting
	// name is the lock's own, empty where only its place is known.
	name string
	// ownerPointer is the thread pointer of the owner, 0 where the lock does not
	// record one: Python's, or the C library's.
	ownerPointer uint64
	// object is the Python object that has the lock, 0 for none.
	object uint64
	// wanted: it is a lock that is held, and not news that is waited for.
	wanted bool
}

// observation is a snapshot for the proofs, with what each thread waits for.
type observation struct {
	snapshot deadlock.Process
	waits    map[int]wait
}

// observe turns what was read of a process into the plain data that the proofs
// judge; quick is true where no thread sleeps in a futex, so that nothing can
// follow.
func (j *job) observe(p *process) (o observation, quick bool) {
	o.waits = make(map[int]wait)
	quick = true
	if !p.sameThreads() {
		return o, true
	}
	for i := range p.looks {
		for _, g := range p.looks[i] {
			if _, ok := futexOf(g.call); ok {
				quick = false
			}
		}
	}
	if quick || p.load() != nil {
		return o, true
	}
	s := &o.snapshot
	blocked := ^uint64(0)
	s.SurvivorKnown = true
	for _, tid := range p.tids {
		g := p.looks[1][tid]
		blocked &= g.status.SigBlk
		s.Handlers = s.Handlers || g.status.SigCgt&^uint64(faults) != 0
		// The thread's own idea of its id, which a raw clone leaves stale.
		was, ok := p.ownID(tid)
		s.SurvivorKnown = s.SurvivorKnown && ok
		if ok {
			s.SurvivorWas = append(s.SurvivorWas, was)
		}
		s.Threads = append(s.Threads, j.thread(p, tid, o.waits))
	}
	caught := p.looks[1][p.tids[0]].status.SigCgt &^ blocked
	s.Handlers = s.Handlers && caught&^uint64(faults) != 0
	s.Timer = p.timed(caught)
	s.Ring = p.ringed()
	s.Alone = j.alone(p)
	// The survivor of a fork is the process's first thread. Later ones may sit
	// on the stack, and so at the thread pointer, that a vanished thread had.
	if m, ok := p.parent(); ok && m.err == nil {
		s.Forked = true
		found := false
		for _, tid := range j.before(p, m) {
			inner := m.looks[1][tid].status.InnerPID()
			if p.here(inner) {
				s.Reused = append(s.Reused, inner)
			}
			if tp := m.pointer(tid); tp == p.pointer(p.pid) && tp != 0 {
				s.SurvivorWas = append(s.SurvivorWas, inner)
				found = true
			} else if tp != 0 {
				s.Vanished = append(s.Vanished, inner)
			}
		}
		// The thread that forked may have ended since, and another have got its
		// place in memory.
		if !found {
			s.SurvivorKnown = false
		}
	} else {
		// Whoever forked this process is gone, or it was not forked: then a
		// stale owner is told by the thread's own record alone, which fork
		// rewrites.
		s.SurvivorKnown = false
	}
	j.interpreterLock(p, s)
	return o, false
}

// interpreterLock adds what is known of Python's global lock.
func (j *job) interpreterLock(p *process, s *deadlock.Process) {
	a, b := p.python.gil[0], p.python.gil[1]
	if b == nil {
		return
	}
	if a == nil {
		// The first look came between two of the waiter's sleeps. Any two later
		// ones do: what counts is that the lock does not move.
		a, b = b, p.readGIL()
		if b == nil {
			return
		}
		p.python.gil = [2]*cpython.GIL{a, b}
	}
	// Who waits must be seen to after one reading of the lock and before another
	// that says the same: else it may have got the lock meanwhile.
	for i, t := range s.Threads {
		if addr, ok := p.onGIL(t.TID, b); ok {
			s.Threads[i].OnGIL, s.Threads[i].Addr = true, addr
		}
	}
	// A thread that was born since the second look could hold it: the threads
	// must be the same after the reading, and the lock the same after that.
	if !p.sameTIDs() {
		return
	}
	if c := p.readGIL(); c == nil || *c != *b {
		return
	}
	gone := b.HolderListed && b.HolderIdent != 0
	for _, t := range s.Threads {
		if t.Pointer == 0 || t.Pointer == b.HolderIdent {
			gone = false
		}
	}
	s.GIL = &deadlock.GIL{Locked: a.Locked && b.Locked, Still: *a == *b, HolderGone: gone}
}

// onGIL reports where a thread that one of the looks saw waiting for the
// interpreter's lock waits for it now. It wakes up every 5 ms, for a moment.
func (p *process) onGIL(tid int, g *cpython.GIL) (addr uint64, ok bool) {
	const times, apart = 10, time.Millisecond
	for k := range p.looks {
		f, isFutex := futexOf(p.looks[k][tid].call)
		ok = ok || isFutex && covers(g, f.Addr)
	}
	for range times {
		if !ok {
			break
		}
		call, err := p.j.fs.Syscall(p.pid, tid)
		if f, isFutex := futexOf(call); err == nil && isFutex && covers(g, f.Addr) {
			return f.Addr, true
		}
		time.Sleep(apart)
	}
	return 0, false
}

// thread reads one thread for the proofs.
func (j *job) thread(p *process, tid int, waits map[int]wait) deadlock.Thread {
	g := p.looks[1][tid]
	t := deadlock.Thread{TID: tid, Inner: g.status.InnerPID(), Name: g.status.Name, Still: p.still(tid), Pointer: p.pointer(tid)}
	f, ok := futexOf(g.call)
	if !ok {
		return t
	}
	t.Futex, t.Addr, t.Timeout, t.Private = true, f.Addr, f.Timeout, f.Private()
	// glibc waits on robust mutexes and for threads to end by the shared
	// operation, though they lie in private memory: there the kernel keys the
	// futex by this very address space (kernel/futex/core.c, get_futex_key).
	m, found := proc.Find(p.maps, f.Addr)
	t.Private = found && !m.Shared && (t.Private || m.Write) && !f.Inherits()
	if !t.Private || t.Timeout || !t.Still {
		return t
	}
	w := wait{Waiting: libc.Classify(f, p.callers(tid), p.mem, p.libcID)}
	w.ownerPointer = w.OwnerPointer
	if w.Kind == "semaphore" || w.Kind == "futex" {
		p.pythonWait(tid, f, &w)
	}
	p.standardStream(&w)
	if w.Kind == "thread-join" {
		if i := slices.IndexFunc(p.tids, func(tid int) bool { return p.pointer(tid) == w.ownerPointer }); i >= 0 && w.ownerPointer != 0 {
			w.name = fmt.Sprintf("the end of thread %s (%d)", p.name(p.tids[i]), p.tids[i])
		}
	}
	waits[tid] = w
	t.Lock, t.Owner, t.OwnerPointer, t.Shared, t.Exclusive = w.Kind, w.OwnerTID, w.ownerPointer, w.Shared, w.Exclusive
	if w.OwnerTID == 0 && w.ownerPointer == 0 {
		t.Then = p.then(w)
	}
	return t
}

// ownID is the id that a thread has for itself, in its own PID namespace, and that
// locks get to record.
func (p *process) ownID(tid int) (int, bool) {
	if p.libcID.Family == "musl" {
		// The ring was found by the ids in it.
		return p.looks[1][tid].status.InnerPID(), p.pointer(tid) != 0
	}
	head, err := proc.RobustList(tid)
	if err != nil || head == 0 || p.pointer(tid) == 0 {
		return 0, false
	}
	own, err := procmem.Uint32(p.mem, head-16)
	return int(own), err == nil
}

// confirm reports whether what a verdict about owners was drawn from holds still.
// Locks are read after the second look: meanwhile one could have been released,
// and been taken by a thread that was born since and is not in the list. So the
// owner is read, then the threads are listed and looked at once more, and then
// the owner is read again: a thread that is not there in between, and is named
// before and after, does not exist.
func (j *job) confirm(p *process, o observation, v deadlock.Verdict) bool {
	asleep := v.TIDs
	switch v.Proof {
	case deadlock.OwnerGone, deadlock.Cycle, deadlock.HeldAtFork:
	case deadlock.NobodyLeft:
		asleep = p.tids
	default:
		return true
	}
	if !p.sameTIDs() {
		return false
	}
	for _, tid := range asleep {
		st, err := j.fs.TaskStatus(p.pid, tid)
		call, err2 := j.fs.Syscall(p.pid, tid)
		was := p.looks[1][tid]
		if err != nil || err2 != nil || st.State != 'S' || st.Switches != was.status.Switches || call != was.call {
			return false
		}
	}
	if v.Proof == deadlock.NobodyLeft {
		return true // what kind of lock it is was read while all still slept
	}
	p.mem.Drop()
	p.python.heap = nil
	for _, tid := range v.TIDs {
		again := make(map[int]wait)
		j.thread(p, tid, again)
		was := o.waits[tid]
		if w := again[tid]; w.OwnerTID != was.OwnerTID || w.ownerPointer != was.ownerPointer || w.Addr != was.Addr || w.Kind != was.Kind {
			return false
		}
	}
	return true
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

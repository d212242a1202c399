// Package deadlock holds the proofs: what follows from a snapshot of a process
// about threads that will never run again. It does no I/O; its inputs are plain
// data and its tests are tables.
//
// A proof needs to know that threads slept at one and the same instant. Each
// thread is looked at twice, and all first looks end before the second ones
// begin: a thread that did not run between its two looks (Still) was asleep at
// the moment in the middle, together with all others.
package deadlock

import (
	"fmt"
	"slices"
	"strings"
)

// Proof is the name of a proof, which is also that of the rule.
type Proof string

// The proofs.
const (
	NobodyLeft Proof = "deadlock-nobody-left"
	OwnerGone  Proof = "deadlock-owner-gone"
	Cycle      Proof = "deadlock-cycle"
	GILGone    Proof = "deadlock-gil-gone"
	HeldAtFork Proof = "deadlock-held-at-fork"
)

// Thread is one thread as it was seen twice.
type Thread struct {
	// TID is the id in our PID namespace, Inner in the thread's own, which is
	// the one that locks record.
	TID, Inner int
	Name       string
	// Still: both looks saw the same sleep, with no processor time and no
	// context switch between them.
	Still bool
	// Futex: the sleep is in futex(2) or one of its relatives.
	Futex bool
	// Addr is the futex word.
	Addr uint64
	// Timeout: the sleep ends by itself.
	Timeout bool
	// Private: only threads that share this memory can end the sleep.
	Private bool
	// Pointer is the thread's thread pointer, 0 where it is not known. A fork
	// keeps it.
	Pointer uint64
	// Lock is the kind of lock, Owner the inner TID that it records, OwnerPointer
	// the thread pointer; 0 where it records none.
	Lock         string
	Owner        int
	OwnerPointer uint64
	// Shared: the lock lies in memory that other processes can reach.
	Shared bool
	// Exclusive: only whoever holds the lock may end the wait; where it is
	// false a signal handler could legitimately do so.
	Exclusive bool
	// Then is what was seen of the lock at the fork that made this process, nil
	// for nothing.
	Then *Then
	// OnGIL: it sleeps in a futex of the interpreter's global lock, and was seen to
	// between two readings of that which are the same.
	OnGIL bool
}

// Then is what was seen of a lock at a fork, in the new process's memory before
// its first instruction: a thread that this process does not have held it.
type Then struct {
	// Own: the lock is one of the C library's own, which is released by the function
	// that took it and by nobody else, and which the library leaves as it is in a
	// child. Where it is false, the program may have made it anew.
	Own bool
	// Seen says what was seen, for the evidence.
	Seen string
}

// forever reports whether nothing but a thread of the same memory ends the sleep.
func (t Thread) forever() bool { return t.Still && t.Futex && t.Private && !t.Timeout }

// GIL is the state of an interpreter's global lock, as it was seen twice.
type GIL struct {
	Locked, Still bool
	// HolderGone: the thread that holds it is none of this process.
	HolderGone bool
}

// Process is what is known of one process.
type Process struct {
	Threads []Thread
	// Alone: no other process shares the address space. False also where that
	// could not be found out.
	Alone bool
	// SurvivorWas are ids that this process's threads had before a fork or
	// clone: locks that they took then still name those.
	SurvivorWas []int
	// SurvivorKnown: SurvivorWas is complete. Without it no owner is called
	// gone: the survivor of a fork may itself hold the lock under its old id.
	SurvivorKnown bool
	// Vanished are the ids of the threads that the parent has, had at the fork
	// and that are not the survivor there.
	Vanished []int
	// Reused are numbers that threads of this process have, and that threads of
	// its parent, the survivor among them, had at the fork: in another PID
	// namespace. A lock that names one may mean either.
	Reused []int
	// Handlers: a signal handler of the program could run.
	Handlers bool
	// Timer: a timer may send a signal that a handler of the program catches, and
	// that handler may leave the wait by siglongjmp.
	Timer bool
	// Ring: the process has an io_uring, of which an operation may wake a futex
	// or write what is waited for.
	Ring bool
	// Forked: the process was forked from a live one without exec.
	Forked bool
	GIL    *GIL
}

// Verdict is one thing that follows.
type Verdict struct {
	Proof Proof
	// Proven is false for what was observed and does not strictly follow.
	Proven bool
	// TIDs are the threads it is about, the one that waits first.
	TIDs []int
	// Why says how it follows.
	Why string
	// Evidence lists what was seen.
	Evidence []string
}

// Judge draws what follows, strongest and most specific first: a thread that is
// part of an owner, cycle or GIL proof is not repeated under nobody-left.
func Judge(p Process) []Verdict {
	var out []Verdict
	named := make(map[int]bool)
	add := func(v Verdict) {
		for _, t := range v.TIDs {
			named[t] = true
		}
		out = append(out, v)
	}
	gone := ownerGone(p)
	for i, v := range gone {
		if v.Proven {
			add(p.limited(gone[i : i+1])[0])
		}
	}
	for _, v := range p.limited(cycles(p)) {
		add(v)
	}
	for _, v := range gilGone(p) {
		add(v)
	}
	held := heldAtFork(p)
	for i, v := range held {
		if v.Proven && !named[v.TIDs[0]] {
			add(p.limited(held[i : i+1])[0])
		}
	}
	if v, ok := nobodyLeft(p, named); ok {
		add(p.limited([]Verdict{v})[0])
	}
	for _, v := range append(gone, held...) {
		if !named[v.TIDs[0]] {
			add(v)
		}
	}
	return out
}

// heldAtFork is P5: the lock names nobody, but was seen held at the fork by a
// thread that is none of this process.
func heldAtFork(p Process) []Verdict {
	var out []Verdict
	for _, t := range p.Threads {
		if t.Then == nil || !t.forever() || t.Shared || !p.Alone || !t.Exclusive {
			continue
		}
		v := Verdict{
			Proof: HeldAtFork, Proven: t.Then.Own, TIDs: []int{t.TID},
			Why: "The lock records no owner. It was seen locked in this process before its first instruction, by a thread that was not copied, and only the function that took it there could release it.",
			Evidence: []string{
				fmt.Sprintf("thread %d (%s) sleeps in a private futex without a time-out at 0x%x; it did not run between two looks", t.TID, t.Name, t.Addr),
				t.Then.Seen,
			},
		}
		if !v.Proven {
			v.Why = "The lock records no owner. It was seen locked in this process before its first instruction, by a thread that was not copied. But the program may have made it anew since, or released it in that thread's place, so this is not called proven."
		}
		out = append(out, v)
	}
	return out
}

// limited weakens what is not proven of a wait that a timer of the program may end.
func (p Process) limited(all []Verdict) []Verdict {
	for i := range all {
		if p.Timer && all[i].Proven {
			all[i].Proven = false
			all[i].Why += " But a timer may be running that sends the process a signal for which it has a handler: as that may be its limit for the wait, this is not called proven."
		}
	}
	return all
}

// nobodyLeft is P1: every thread sleeps until another of the same memory wakes it.
func nobodyLeft(p Process, named map[int]bool) (Verdict, bool) {
	if len(p.Threads) == 0 || !p.Alone {
		return Verdict{}, false
	}
	v := Verdict{Proof: NobodyLeft, Proven: true}
	event := false
	for _, t := range p.Threads {
		if !t.forever() {
			return Verdict{}, false
		}
		event = event || !t.Exclusive
		if !named[t.TID] {
			v.TIDs = append(v.TIDs, t.TID)
		}
		v.Evidence = append(v.Evidence, fmt.Sprintf("thread %d (%s) sleeps in a private futex without a time-out at 0x%x; it did not run between two looks", t.TID, t.Name, t.Addr))
	}
	if len(v.TIDs) == 0 {
		return Verdict{}, false
	}
	v.Why = "Every thread of the process sleeps until another thread of the same process wakes it, and no other process shares its memory. Nobody is left to do that."
	if len(p.Threads) == 1 {
		v.Why = "The process has one thread, which sleeps until another thread of the same process wakes it, and no other process shares its memory. Nobody is left to do that."
	}
	switch {
	case event && p.Handlers:
		// Not every wait is for a lock: a program may sleep until its signal
		// handler posts a semaphore, and be healthy.
		v.Proven = false
		v.Why += " Only a signal handler of the program itself could still end the wait, and it has some, so this is not called proven."
	case event && p.Ring:
		v.Proven = false
		v.Why += " Only an operation of io_uring could still end the wait, and the program uses that, so this is not called proven."
	}
	return v, true
}

// holder finds the thread that holds the lock which t waits for. gone is true
// where it is known to be no thread of this process; both are false where
// nothing is known.
func (p Process) holder(t Thread) (h Thread, here, gone bool) {
	switch {
	case t.OwnerPointer != 0:
		known := true
		for _, o := range p.Threads {
			if o.Pointer == t.OwnerPointer {
				return o, true, false
			}
			known = known && o.Pointer != 0
		}
		return h, false, known
	case t.Owner != 0:
		if slices.Contains(p.Reused, t.Owner) {
			return h, false, false
		}
		for _, o := range p.Threads {
			if o.Inner == t.Owner {
				return o, true, false
			}
		}
		return h, false, p.SurvivorKnown && !slices.Contains(p.SurvivorWas, t.Owner)
	}
	return h, false, false
}

// ownerGone is P2: the lock names a thread that is none of this process.
func ownerGone(p Process) []Verdict {
	var out []Verdict
	for _, t := range p.Threads {
		if !t.forever() || t.Shared || !p.Alone || !t.Exclusive {
			continue
		}
		if _, _, gone := p.holder(t); !gone {
			continue
		}
		who := fmt.Sprintf("thread %d", t.Owner)
		field := fmt.Sprintf("the lock's owner field holds %d; the process's threads are %s", t.Owner, p.ids())
		if t.OwnerPointer != 0 {
			who = fmt.Sprintf("the thread whose control block is at 0x%x", t.OwnerPointer)
			field = fmt.Sprintf("the lock names the thread whose control block is at 0x%x; those of the process's threads are at %s", t.OwnerPointer, p.pointers())
		}
		why := fmt.Sprintf("The lock records %s as its owner. No thread of this process is or was that one, so nobody can ever release the lock.", who)
		if t.Lock == "thread-join" {
			why = fmt.Sprintf("The thread waits for the end of %s. No thread of this process is that one, so it can never end here.", who)
			field = fmt.Sprintf("the word lies in the control block at 0x%x of the thread that is waited for; those of the process's threads are at %s", t.OwnerPointer, p.pointers())
		}
		v := Verdict{
			Proof: OwnerGone, Proven: true, TIDs: []int{t.TID}, Why: why,
			Evidence: []string{
				fmt.Sprintf("thread %d (%s) sleeps in a private futex without a time-out at 0x%x; it did not run between two looks", t.TID, t.Name, t.Addr),
				field,
			},
		}
		// A number that the parent does not have any more may also be one that
		// the survivor had before an earlier fork: a master that made itself a
		// daemon has been two processes before.
		if t.OwnerPointer == 0 && !slices.Contains(p.Vanished, t.Owner) {
			v.Proven = false
			v.Why = fmt.Sprintf("The lock records %s as its owner, which is no thread of this process. The process that it was forked from has no such thread any more either, so it cannot be told from a number that a thread here had before an earlier fork, and this is not called proven.", who)
		}
		out = append(out, v)
	}
	return out
}

func (p Process) ids() string {
	var s []string
	for i, t := range p.Threads {
		if i == 16 {
			s = append(s, "...")
			break
		}
		s = append(s, fmt.Sprint(t.Inner))
	}
	return strings.Join(s, ", ")
}

func (p Process) pointers() string {
	var s []string
	for i, t := range p.Threads {
		if i == 16 {
			s = append(s, "...")
			break
		}
		s = append(s, fmt.Sprintf("0x%x", t.Pointer))
	}
	return strings.Join(s, ", ")
}

// cycles is P3: threads wait for each other in a ring.
func cycles(p Process) []Verdict {
	if !p.Alone {
		return nil
	}
	next := make(map[int]Thread) // by TID
	holds := make(map[int]int)   // the TID of who holds what a thread waits for
	for _, t := range p.Threads {
		if !t.forever() || !t.Exclusive || t.Shared {
			continue
		}
		if h, here, _ := p.holder(t); here {
			next[t.TID], holds[t.TID] = t, h.TID
		}
	}
	seen := make(map[int]bool)
	var out []Verdict
	for _, t := range p.Threads {
		var ring []Thread
		on := make(map[int]int)
		at, ok := next[t.TID]
		for ok && !seen[at.TID] {
			if i, again := on[at.TID]; again {
				ring = ring[i:]
				v := Verdict{Proof: Cycle, Proven: true, Why: "The threads wait for each other in a ring, so none of them can go on. This is not the doing of fork: it can happen in any process that takes these locks in different orders."}
				for _, r := range ring {
					seen[r.TID] = true
					v.TIDs = append(v.TIDs, r.TID)
					v.Evidence = append(v.Evidence, fmt.Sprintf("thread %d (%s) waits at 0x%x for a lock that thread %d holds", r.TID, r.Name, r.Addr, holds[r.TID]))
				}
				if len(ring) == 1 {
					v.Why = "The thread waits for a lock that it holds itself, so it can never go on. This is not the doing of fork."
					// Programs do this to sleep until another thread unlocks the mutex.
					// POSIX has it undefined, and C libraries allow it.
					// A handler of signals could, too, and as the owner at that.
					if _, ok := nobodyLeft(p, nil); !ok || p.Handlers {
						v.Proven = false
						v.Why = "The thread waits for a lock that it holds itself. Some programs do so to sleep until another thread or a signal handler releases the lock, though POSIX does not allow that. Here others go on, or there are handlers, so this is not called proven."
					}
				}
				out = append(out, v)
				break
			}
			on[at.TID] = len(ring)
			ring = append(ring, at)
			at, ok = next[holds[at.TID]]
		}
		for _, r := range ring {
			seen[r.TID] = true
		}
	}
	return out
}

// gilGone is P4: the interpreter's lock is held by a thread that is none of
// this process, and a thread waits for it, in a loop of timed sleeps.
func gilGone(p Process) []Verdict {
	if p.GIL == nil || !p.GIL.Locked || !p.GIL.Still || !p.GIL.HolderGone || !p.Alone || !p.Forked {
		return nil
	}
	var v Verdict
	for _, t := range p.Threads {
		if t.OnGIL {
			v.TIDs = append(v.TIDs, t.TID)
			v.Evidence = append(v.Evidence, fmt.Sprintf("thread %d (%s) waits for the interpreter's lock (GIL) at 0x%x", t.TID, t.Name, t.Addr))
		}
	}
	if len(v.TIDs) == 0 {
		return nil
	}
	v.Proof, v.Proven = GILGone, true
	v.Why = "The interpreter's own lock (the GIL) is held by a thread that does not exist in this process: it was another thread of the master at the fork. No Python code can ever run here again."
	v.Evidence = append(v.Evidence, "the interpreter says that its lock is held and by whom; two looks saw the same holder and no change of hands")
	// A program may enter Python with a thread state that another thread made, also
	// with one that a thread of the master made and the survivor has. Then the
	// holder is whoever runs now, and that must be ruled out.
	for _, t := range p.Threads {
		if t.OnGIL || t.forever() {
			continue
		}
		v.Proven = false
		v.Why = "The interpreter says that its own lock (the GIL) is held by a thread that does not exist in this process. But other threads run here, and one of them may hold it by a thread state that was made for another, so this is not called proven."
	}
	return []Verdict{v}
}

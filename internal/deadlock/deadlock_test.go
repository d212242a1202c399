package deadlock

import (
	"slices"
	"testing"
)

// waiter is a thread that sleeps for ever in a private futex on a mutex.
func waiter(tid, owner int) Thread {
	return Thread{TID: tid, Inner: tid, Still: true, Futex: true, Addr: 0x1000, Private: true, Lock: "pthread_mutex", Owner: owner, Exclusive: true}
}

// points is a waiter for a lock that names its owner by thread pointer.
func points(tid int, pointer, owner uint64) Thread {
	t := waiter(tid, 0)
	t.Lock, t.Pointer, t.OwnerPointer = "python-rlock", pointer, owner
	return t
}

// seen is a waiter for a lock that names nobody and was seen held at the fork.
func seen(tid int, own bool) Thread {
	t := waiter(tid, 0)
	t.Lock, t.Then = "libc-internal", &Then{Own: own, Seen: "it was held"}
	return t
}

func with(t Thread, f func(*Thread)) Thread { f(&t); return t }

func TestJudge(t *testing.T) {
	worker := func(threads ...Thread) Process {
		return Process{Threads: threads, Alone: true, SurvivorKnown: true, Vanished: []int{99}, Forked: true}
	}
	change := func(p Process, f func(*Process)) Process { f(&p); return p }
	polling := Thread{TID: 20, Inner: 20, Still: true}
	event := func(th *Thread) { th.Exclusive, th.Owner, th.Lock = false, 0, "semaphore" }
	type want struct {
		proof  Proof
		proven bool
	}
	for _, tc := range []struct {
		name string
		p    Process
		want []want
	}{
		{"no threads at all prove nothing", worker(), nil},
		{"the only thread waits for a lock that names nobody", worker(waiter(10, 0)), []want{{NobodyLeft, true}}},
		{"the owner is no thread of this process", worker(waiter(10, 99)), []want{{OwnerGone, true}}},
		{"the owner is gone though another thread polls", worker(waiter(10, 99), polling), []want{{OwnerGone, true}}},
		{"the owner is the survivor under its old number", change(worker(waiter(10, 99), polling), func(p *Process) { p.SurvivorWas = []int{99} }), nil},
		{"the survivor's old number is not known", change(worker(waiter(10, 99), polling), func(p *Process) { p.SurvivorKnown = false }), nil},
		{"the parent has the owner no more, but all sleep", change(worker(waiter(10, 99)), func(p *Process) { p.Vanished = nil }), []want{{NobodyLeft, true}}},
		{"the parent has the owner no more, and another thread polls", change(worker(waiter(10, 99), polling), func(p *Process) { p.Vanished = nil }), []want{{OwnerGone, false}}},
		{"a bare lock that was seen held at the fork, and another thread polls", worker(seen(10, true), polling), []want{{HeldAtFork, true}}},
		{"a lock that the program may have made anew was seen held", worker(seen(10, false), polling), []want{{HeldAtFork, false}}},
		{"the same, but nobody is left at all", worker(seen(10, false)), []want{{NobodyLeft, true}}},
		{"a bare lock was seen held, and nobody is left", worker(seen(10, true)), []want{{HeldAtFork, true}}},
		{"two wait for the lock that was seen held", worker(seen(10, true), seen(11, true), polling), []want{{HeldAtFork, true}, {HeldAtFork, true}}},
		{"the wait for a lock that was seen held has a time-out", worker(with(seen(10, true), func(t *Thread) { t.Timeout = true }), polling), nil},
		{"its waiter ran between the looks", worker(with(seen(10, true), func(t *Thread) { t.Still = false }), polling), nil},
		{"it is not known that only its holder ends the wait", worker(with(seen(10, true), func(t *Thread) { t.Exclusive = false }), polling), nil},
		{"it lies in memory that others reach", worker(with(seen(10, true), func(t *Thread) { t.Shared = true }), polling), nil},
		{"another process shares the memory of a lock that was seen held", change(worker(seen(10, true), polling), func(p *Process) { p.Alone = false }), nil},
		{"a timer may end the wait for a lock that was seen held", change(worker(seen(10, true), polling), func(p *Process) { p.Timer = true }), []want{{HeldAtFork, false}}},
		{"somebody polls and may come back", worker(waiter(10, 0), polling), nil},
		{"the owner is alive and polls", worker(waiter(10, 20), polling), nil},
		{"the wait has a time-out", worker(with(waiter(10, 99), func(t *Thread) { t.Timeout = true })), nil},
		{"the thread ran between the looks", worker(with(waiter(10, 99), func(t *Thread) { t.Still = false })), nil},
		{"the futex is shared with other processes", worker(with(waiter(10, 99), func(t *Thread) { t.Private = false })), nil},
		{"the mutex is process-shared", worker(with(waiter(10, 99), func(t *Thread) { t.Shared = true }), polling), nil},
		{"another process shares the memory", change(worker(waiter(10, 99)), func(p *Process) { p.Alone = false }), nil},
		{"a semaphore, and no handler could post it", worker(with(waiter(10, 0), event)), []want{{NobodyLeft, true}}},
		{"a semaphore that a signal handler may post", change(worker(with(waiter(10, 0), event)), func(p *Process) { p.Handlers = true }), []want{{NobodyLeft, false}}},
		{"a mutex is proven though there are signal handlers", change(worker(waiter(10, 0)), func(p *Process) { p.Handlers = true }), []want{{NobodyLeft, true}}},
		{"two threads wait for each other", worker(waiter(10, 11), waiter(11, 10)), []want{{Cycle, true}}},
		{"a ring of two while a third polls", worker(waiter(10, 11), waiter(11, 10), polling), []want{{Cycle, true}}},
		{"a thread waits for itself", worker(waiter(10, 10)), []want{{Cycle, true}}},
		{"a thread waits for itself, and another could unlock the mutex all the same", worker(waiter(10, 10), polling), []want{{Cycle, false}}},
		{"a thread waits for itself, and a handler could unlock the mutex", change(worker(waiter(10, 10)), func(p *Process) { p.Handlers = true }), []want{{Cycle, false}}},
		{"a thread waits for itself, and another for a semaphore that a handler may post", change(worker(waiter(10, 10), with(waiter(11, 0), event)), func(p *Process) { p.Handlers = true }), []want{{Cycle, false}, {NobodyLeft, false}}},
		{"a timer's signal may end the wait for a vanished thread", change(worker(waiter(10, 99), polling), func(p *Process) { p.Timer = true }), []want{{OwnerGone, false}}},
		{"a timer's signal may end the wait in a ring", change(worker(waiter(10, 11), waiter(11, 10)), func(p *Process) { p.Timer = true }), []want{{Cycle, false}}},
		{"a timer's signal may end the only wait", change(worker(waiter(10, 0)), func(p *Process) { p.Timer = true }), []want{{NobodyLeft, false}}},
		{"a semaphore where io_uring is used", change(worker(with(waiter(10, 0), event)), func(p *Process) { p.Ring = true }), []want{{NobodyLeft, false}}},
		{"a mutex where io_uring is used", change(worker(waiter(10, 99)), func(p *Process) { p.Ring = true }), []want{{OwnerGone, true}}},
		{"the owner's number is that of a thread here and that of one before the fork", change(worker(waiter(10, 10), polling), func(p *Process) { p.Reused = []int{10} }), nil},
		{"a thread behind a ring is nobody-left", worker(waiter(12, 10), waiter(10, 11), waiter(11, 10)), []want{{Cycle, true}, {NobodyLeft, true}}},
		{"the owner's control block is no thread's", worker(points(10, 0xa0, 0xff), with(polling, func(t *Thread) { t.Pointer = 0xb0 })), []want{{OwnerGone, true}}},
		{"the end of a thread that vanished is awaited", worker(with(points(10, 0xa0, 0xff), func(t *Thread) { t.Lock = "thread-join" }), with(polling, func(t *Thread) { t.Pointer = 0xb0 })), []want{{OwnerGone, true}}},
		{"the end of a thread that polls is awaited", worker(with(points(10, 0xa0, 0xb0), func(t *Thread) { t.Lock = "thread-join" }), with(polling, func(t *Thread) { t.Pointer = 0xb0 })), nil},
		{"the owner's control block is that of a thread that polls", worker(points(10, 0xa0, 0xb0), with(polling, func(t *Thread) { t.Pointer = 0xb0 })), nil},
		{"a control block is not known, and could be the owner's", worker(points(10, 0xa0, 0xff), polling), nil},
		{"a lock names the thread that waits for it, by its control block", worker(points(10, 0xa0, 0xa0)), []want{{Cycle, true}}},
		{"a ring of one lock with a number and one with a control block", worker(with(waiter(10, 11), func(t *Thread) { t.Pointer = 0xa0 }), points(11, 0xb0, 0xa0), polling), []want{{Cycle, true}}},
		{"a ring through a thread that ran is none", worker(waiter(10, 11), with(waiter(11, 10), func(t *Thread) { t.Still = false })), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []want
			for _, v := range Judge(tc.p) {
				got = append(got, want{v.Proof, v.Proven})
				if v.Why == "" || len(v.Evidence) == 0 || len(v.TIDs) == 0 {
					t.Errorf("verdict without words, evidence or thread: %+v", v)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestGIL(t *testing.T) {
	loop := Thread{TID: 10, Inner: 10, Futex: true, Addr: 0x2020, Private: true, Timeout: true, OnGIL: true}
	base := Process{Threads: []Thread{loop}, Alone: true, Forked: true, GIL: &GIL{Locked: true, Still: true, HolderGone: true}}
	for name, tc := range map[string]struct {
		change func(*Process)
		want   bool
	}{
		"held by nobody here":           {func(*Process) {}, true},
		"free":                          {func(p *Process) { p.GIL = &GIL{Still: true, HolderGone: true} }, false},
		"changing hands":                {func(p *Process) { p.GIL = &GIL{Locked: true, HolderGone: true} }, false},
		"held by a thread of this":      {func(p *Process) { p.GIL = &GIL{Locked: true, Still: true} }, false},
		"nobody waits for it":           {func(p *Process) { p.Threads = []Thread{{TID: 10, Inner: 10}} }, false},
		"not forked":                    {func(p *Process) { p.Forked = false }, false},
		"memory shared with a stranger": {func(p *Process) { p.Alone = false }, false},
		"another thread runs, and may have the holder's thread state": {func(p *Process) { p.Threads = append(p.Threads, Thread{TID: 11, Inner: 11}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := base
			tc.change(&p)
			got := slices.ContainsFunc(Judge(p), func(v Verdict) bool { return v.Proof == GILGone && v.Proven })
			if got != tc.want {
				t.Errorf("GIL proof: got %v, want %v", got, tc.want)
			}
		})
	}
}

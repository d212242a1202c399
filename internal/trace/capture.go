package trace

import (
	"bytes"
	"fmt"
	"time"

	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
	"forkproof/internal/unwind"
)

// compared is how much of a stack must be the same in parent and child for a
// thread to count as one that has not run since the fork.
const compared = 512

// capture is what has to be read while the parent's thread stands at its fork.
type capture struct {
	began   time.Time
	stood   time.Duration
	self    seen
	threads []seen
	left    int // threads that there was no time for
}

// seen is one thread at a fork.
type seen struct {
	tid, inner int
	name       string
	state      byte
	call       proc.Syscall
	regs       unwind.Regs
	sp         uint64
	known      bool // regs and sp are
	moved      bool
	pointer    uint64
	stack      []byte // what is above sp, in the child's copy
	whole      bool   // it was followed to its end
}

// hook sees each event on the tracer's thread, as it comes. A fork's parent is
// let go here, before anything else is done; the child waits.
func (j *job) hook(e ptrace.Event) bool {
	switch e.Kind {
	case ptrace.Fork, ptrace.VFork:
	case ptrace.SyscallEntry, ptrace.SyscallExit:
		return j.called(e)
	case ptrace.Stepped, ptrace.Gone:
		return j.step(e)
	default:
		return false
	}
	c := &capture{began: time.Now()}
	c.self = seen{tid: e.TID}
	if r, err := j.s.Regs(e.TID); err == nil {
		c.self.regs, c.self.sp, c.self.known = unwind.FromPtrace(&r), ptrace.SP(&r), true
	}
	if st, err := j.fs.TaskStat(e.PID, e.TID); err == nil {
		c.self.name = st.Comm
	}
	if !e.Shared {
		j.others(e, c)
	}
	_ = j.s.Resume(e.TID)
	c.stood = time.Since(c.began)
	mu.Lock()
	j.begun[e.Child] = c
	mu.Unlock()
	return false
}

// others looks at all other threads of the parent. One that sleeps shows by
// itself where it is; only one that runs is stopped.
func (j *job) others(e ptrace.Event, c *capture) {
	end := c.began.Add(j.req.MaxStop)
	tids := j.s.Threads(e.PID)
	var running []int
	index := make(map[int]int)
	for i, tid := range tids {
		if tid == e.TID {
			continue
		}
		if time.Now().After(end) {
			c.left = len(tids) - i
			break
		}
		st, err := j.fs.TaskStat(e.PID, tid)
		if err != nil {
			continue
		}
		t := seen{tid: tid, name: st.Comm, state: st.State}
		if call, err := j.fs.Syscall(e.PID, tid); err == nil && !call.Running {
			t.call, t.sp, t.known = call, call.SP, call.SP != 0
			t.regs = unwind.FromSyscall(call.SP, call.PC)
		} else {
			running = append(running, tid)
		}
		index[tid] = len(c.threads)
		c.threads = append(c.threads, t)
	}
	if len(running) > 0 {
		late, _ := j.s.Freeze(max(0, time.Until(end)), running...)
		stands := make(map[int]bool)
		for _, tid := range running {
			stands[tid] = true
		}
		for _, tid := range late {
			delete(stands, tid)
		}
		for tid := range stands {
			t := &c.threads[index[tid]]
			if r, err := j.s.Regs(tid); err == nil {
				t.regs, t.sp, t.known = unwind.FromPtrace(&r), ptrace.SP(&r), true
			}
		}
		defer func() { _ = j.s.Thaw(running...) }()
	}
	// Both copies are compared while those that ran stand still.
	parent, child := procmem.Open(e.PID), procmem.Open(e.Child)
	for i := range c.threads {
		t := &c.threads[i]
		var a, b [compared]byte
		n := compared
		if room := 4096 - t.sp%4096; room < compared {
			n = int(room)
		}
		_, err1 := parent.ReadAt(a[:n], t.sp)
		_, err2 := child.ReadAt(b[:n], t.sp)
		t.moved = !t.known || err1 != nil || err2 != nil || !bytes.Equal(a[:n], b[:n])
	}
}

// leftOut says what a capture had no time for.
func (c *capture) leftOut(most time.Duration) []string {
	if c.left == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d threads of the parent: there was no time for them within %v (--max-stop)", c.left, most)}
}

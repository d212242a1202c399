package inspect

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
	"forkproof/internal/unwind"
)

// maxStopped bounds how many threads one run stops, each a few times at most:
// nobody reads the stacks of hundreds of busy workers.
const maxStopped = 64

// sampling is what a run knows of the threads that it stopped.
type sampling struct {
	mu sync.Mutex
	// off: nothing may be stopped.
	off bool
	// sampler is nil until the first stop.
	sampler *unwind.Sampler
	threads map[int]bool
	// longest is the longest time that any of them stood still.
	longest time.Duration
	// left are running threads that were not stopped for a reason of ours, failed
	// those that the kernel did not let us stop, and refusal the last reason.
	left, failed map[int]bool
	refusal      error
}

func newSampling(off bool) *sampling {
	return &sampling{off: off, threads: make(map[int]bool), left: make(map[int]bool), failed: make(map[int]bool)}
}

func (s *sampling) close() {
	if s.sampler != nil {
		s.sampler.Close()
	}
}

// notes say what was stopped, and what could not be.
func (s *sampling) notes() []string {
	var out []string
	if n := len(s.threads); n > 0 {
		out = append(out, fmt.Sprintf("%s stopped to read the stack, for %d µs at most; --no-stop forbids it", count(n, "running thread was", "running threads were"), s.longest.Microseconds()))
	}
	if n := len(s.left); n > 0 {
		why := fmt.Sprintf("no more than %d are stopped in one run", maxStopped)
		if s.off {
			why = "--no-stop forbids to stop them"
		}
		out = append(out, fmt.Sprintf("%s shown without a native stack: %s", count(n, "running thread is", "running threads are"), why))
	}
	if n := len(s.failed); n > 0 {
		out = append(out, fmt.Sprintf("%s shown without a native stack: %v", count(n, "running thread is", "running threads are"), s.refusal))
	}
	return out
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// sample is the stack of a thread at one instant.
type sample struct {
	frames []unwind.Frame
	// regs are those of the innermost frame; of a thread that slept the stack
	// pointer and program counter alone.
	regs unwind.Regs
}

// ran reports whether a thread was on a processor, or waited for one, at both
// looks: then the kernel does not tell where it is.
func (p *process) ran(tid int) bool {
	for _, look := range p.looks {
		if g, ok := look[tid]; !ok || g.err != nil || g.status.State != 'R' {
			return false
		}
	}
	return true
}

// sample takes one sample of a thread, whatever it does at the moment. It is
// stopped for that only if it runs. The error wraps [ptrace.ErrBusy] or
// [ptrace.ErrAsleep] where another try may succeed.
func (p *process) sample(tid int) (s sample, err error) {
	if err := p.load(); err != nil {
		return s, err
	}
	// A thread that runs and sleeps in turn may change over between two steps.
	for range 4 {
		st, err := p.j.fs.TaskStat(p.pid, tid)
		if err != nil {
			return s, err
		}
		switch st.State {
		case 'R':
			s, err = p.stopped(tid)
		case 'S':
			s, err = p.paused(tid)
		default:
			return s, errForbidden
		}
		if !errors.Is(err, ptrace.ErrAsleep) {
			return s, err
		}
	}
	return s, ptrace.ErrAsleep
}

// errForbidden: a thread may not be stopped.
var errForbidden = errors.New("not to be stopped")

// stopped samples a thread that runs.
func (p *process) stopped(tid int) (sample, error) {
	s := p.j.sampling
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off || len(s.threads) >= maxStopped && !s.threads[tid] {
		s.left[tid] = true
		return sample{}, errForbidden
	}
	if s.sampler == nil {
		s.sampler = unwind.NewSampler()
	}
	taken, err := s.sampler.Take(p.pid, tid)
	switch {
	case errors.Is(err, ptrace.ErrDenied), errors.Is(err, ptrace.ErrTraced):
		s.failed[tid], s.refusal = true, err
		return sample{}, err
	case err != nil:
		return sample{}, err
	}
	s.threads[tid] = true
	s.longest = max(s.longest, taken.Stop.Took)
	frames, _ := taken.Stack(procmem.Open(p.pid), p.space, maxFrames)
	return sample{frames, taken.Regs}, nil
}

// paused samples a thread that sleeps, which must do so in one system call from
// before until after.
func (p *process) paused(tid int) (sample, error) {
	before, err := p.j.fs.Syscall(p.pid, tid)
	if err != nil {
		return sample{}, err
	}
	if before.Running || before.SP == 0 {
		return sample{}, ptrace.ErrAsleep
	}
	was, err := p.j.fs.TaskStatus(p.pid, tid)
	if err != nil {
		return sample{}, err
	}
	regs := unwind.FromSyscall(before.SP, before.PC)
	frames, _ := unwind.Stack(procmem.Open(p.pid), p.space, regs, maxFrames)
	after, err := p.j.fs.Syscall(p.pid, tid)
	is, err2 := p.j.fs.TaskStatus(p.pid, tid)
	if err != nil || err2 != nil || after != before || is.Switches != was.Switches {
		if proc.IsGone(err) || proc.IsGone(err2) {
			return sample{}, proc.ErrGone
		}
		return sample{}, ptrace.ErrAsleep
	}
	return sample{frames, regs}, nil
}

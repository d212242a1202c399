package unwind

import (
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
)

// sampled is how much of a stack is copied, from the stack pointer up.
const sampled = 256 << 10

// redZone is what a function may use below its stack pointer (System V ABI,
// amd64).
const redZone = 128

// Sample is what a running thread looked like at one instant.
type Sample struct {
	Regs Regs
	// Stop tells how long the thread stood still for it.
	Stop ptrace.Stop

	base  uint64
	stack []byte
}

// Sampler takes samples. It is not for concurrent use.
type Sampler struct {
	tracer *ptrace.Tracer
	buf    []byte
}

// NewSampler returns a sampler.
func NewSampler() *Sampler {
	return &Sampler{tracer: ptrace.New(), buf: make([]byte, sampled)}
}

// Close ends the sampler.
func (s *Sampler) Close() { s.tracer.Close() }

// Take stops a running thread of process pid, copies its registers and up to
// 256 KiB of its stack, and lets it go on before anything is made of them. The
// errors are those of [ptrace.Tracer.StopRunning].
func (s *Sampler) Take(pid, tid int) (*Sample, error) {
	mem := procmem.Open(pid)
	out := &Sample{}
	n := 0
	var err error
	out.Stop, err = s.tracer.StopRunning(pid, tid, func(r *ptrace.Regs) {
		out.Regs = FromPtrace(r)
		out.base = (out.Regs.SP() - redZone) &^ (pageSize - 1)
		// The end of the stack comes before that of the buffer, as a rule: what
		// lies below it was copied.
		n, _ = mem.ReadAt(s.buf, out.base)
	})
	if err != nil {
		return nil, err
	}
	out.stack = append([]byte(nil), s.buf[:n]...)
	return out, nil
}

// Stack returns the thread's frames as [Stack] does, from the copy; mem, which
// is read for code and for what lies beyond the copy, and space are of the same
// process.
func (s *Sample) Stack(mem procmem.Reader, space Space, limit int) ([]Frame, error) {
	return Stack(procmem.Over(mem, s.base, s.stack), space, s.Regs, limit)
}

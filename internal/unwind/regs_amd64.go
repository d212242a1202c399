package unwind

import (
	"golang.org/x/sys/unix"

	"forkproof/internal/cfi"
)

// NativeArch is that of this machine.
const NativeArch = cfi.AMD64

// FromPtrace returns the registers of a stopped thread.
func FromPtrace(p *unix.PtraceRegs) Regs {
	r := NewRegs(NativeArch)
	for i, v := range []uint64{
		p.Rax, p.Rdx, p.Rcx, p.Rbx, p.Rsi, p.Rdi, p.Rbp, p.Rsp,
		p.R8, p.R9, p.R10, p.R11, p.R12, p.R13, p.R14, p.R15,
	} {
		r.Set(i, v)
	}
	r.SetPC(p.Rip)
	return r
}

package unwind

import (
	"golang.org/x/sys/unix"

	"forkproof/internal/cfi"
)

// NativeArch is that of this machine.
const NativeArch = cfi.ARM64

// FromPtrace returns the registers of a stopped thread.
func FromPtrace(p *unix.PtraceRegs) Regs {
	r := NewRegs(NativeArch)
	for i, v := range p.Regs {
		r.Set(i, v)
	}
	r.SetSP(p.Sp)
	r.SetPC(p.Pc)
	return r
}

package provoke

import (
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
)

// argument returns the nth argument, from 0 to 5, of the function at whose first
// instruction a thread stands (System V ABI for x86-64, section 3.2.3).
func argument(r *ptrace.Regs, n int) uint64 {
	return [...]uint64{r.Rdi, r.Rsi, r.Rdx, r.Rcx, r.R8, r.R9}[n]
}

// result is what a function returned.
func result(r *ptrace.Regs) uint64 { return r.Rax }

func stackPointer(r *ptrace.Regs) uint64 { return r.Rsp }

// threadPointer is pthread_self() of the thread.
func threadPointer(r *ptrace.Regs) uint64 { return r.Fs_base }

// returnAddress is where the function at whose first instruction a thread stands
// returns to.
func returnAddress(r *ptrace.Regs, mem procmem.Reader) (uint64, error) {
	return procmem.Uint64(mem, r.Rsp)
}

// returned is the stack pointer of a thread behind a return whose call had sp at
// the callee's first instruction.
func returned(sp uint64) uint64 { return sp + 8 }

// preserved are the registers that a function leaves as they are: where compilers
// keep an object over a call.
func preserved(r *ptrace.Regs) []uint64 {
	return []uint64{r.Rbx, r.Rbp, r.R12, r.R13, r.R14, r.R15}
}

// atomic reports whether the instruction at pc changes memory that threads share:
// it has a LOCK prefix or is an exchange, which needs none (Intel SDM, volume 2,
// LOCK and XCHG).
func atomic(mem procmem.Reader, pc uint64) bool {
	b, err := procmem.Bytes(mem, pc, 8, 8)
	if err != nil {
		return false
	}
	for i, c := range b {
		switch {
		case c == 0xf0:
			return true
		case c == 0x66 || c == 0xf2 || c == 0xf3 || c&0xf0 == 0x40 && i < 4:
			continue
		}
		return c == 0x86 || c == 0x87
	}
	return false
}

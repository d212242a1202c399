package provoke

import (
	"encoding/binary"

	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
)

// argument returns the nth argument, from 0 to 7, of the function at whose first
// instruction a thread stands (AAPCS64, section 6.8.2).
func argument(r *ptrace.Regs, n int) uint64 { return r.Regs[n] }

// result is what a function returned.
func result(r *ptrace.Regs) uint64 { return r.Regs[0] }

func stackPointer(r *ptrace.Regs) uint64 { return r.Sp }

// threadPointer is 0: it is in a register set of its own (NT_ARM_TLS), and threads
// are known by their ids.
func threadPointer(*ptrace.Regs) uint64 { return 0 }

// returnAddress is where the function at whose first instruction a thread stands
// returns to.
func returnAddress(r *ptrace.Regs, _ procmem.Reader) (uint64, error) { return r.Regs[30], nil }

// returned is the stack pointer of a thread behind a return whose call had sp at
// the callee's first instruction.
func returned(sp uint64) uint64 { return sp }

// preserved are the registers that a function leaves as they are: where compilers
// keep an object over a call.
func preserved(r *ptrace.Regs) []uint64 { return r.Regs[19:29] }

// atomic reports whether the instruction at pc is one that takes a lock: an
// exclusive store, or one of the atomic instructions of ARMv8.1 (Arm ARM, C4.1).
// A pair of exclusive load and store is not completed in single steps: a thread
// that takes its lock so is seen not to get it, and the lock is not reached.
func atomic(mem procmem.Reader, pc uint64) bool {
	b, err := procmem.Bytes(mem, pc, 4, 4)
	if err != nil {
		return false
	}
	w := binary.LittleEndian.Uint32(b)
	return w&0x3f000000 == 0x08000000 || w&0x3b200c00 == 0x38200000
}

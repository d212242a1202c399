package unwind

import "forkproof/internal/cfi"

// Regs are the registers of one frame, by DWARF number (see cfi.NumRegs), as far
// as they are known.
type Regs struct {
	arch  cfi.Arch
	known uint64 // bit n: register n
	v     [cfi.NumRegs]uint64
	pc    uint64
	pac   uint64 // bits of a code address that are a signature
}

// NewRegs returns registers of which none is known yet.
func NewRegs(arch cfi.Arch) Regs {
	r := Regs{arch: arch}
	if arch == cfi.ARM64 {
		// Without the mask from the kernel: user addresses have 48 bits.
		r.pac = ^uint64(1<<48 - 1)
	}
	return r
}

// FromSyscall returns what /proc/PID/task/TID/syscall tells of a sleeping thread
// of this machine: only the stack pointer and the program counter.
func FromSyscall(sp, pc uint64) Regs {
	r := NewRegs(NativeArch)
	r.SetPC(pc)
	r.SetSP(sp)
	return r
}

// Get returns register n, false where it is not known.
func (r *Regs) Get(n int) (uint64, bool) {
	if n < 0 || n >= cfi.NumRegs || r.known&(1<<n) == 0 {
		return 0, false
	}
	return r.v[n], true
}

// Set makes register n known. Numbers that are no general register's are
// ignored.
func (r *Regs) Set(n int, v uint64) {
	if n >= 0 && n < cfi.NumRegs {
		r.v[n] = v
		r.known |= 1 << n
	}
}

// PC is the program counter.
func (r *Regs) PC() uint64 { return r.pc }

// SetPC sets the program counter.
func (r *Regs) SetPC(pc uint64) { r.setPC(pc) }

// setPC keeps the column by which tables know the program counter: on amd64
// that of the return address, which the rule of a PLT asks for.
func (r *Regs) setPC(pc uint64) {
	r.pc = pc
	if r.arch == cfi.ARM64 {
		r.Set(32, pc)
	} else {
		r.Set(16, pc)
	}
}

// SP is the stack pointer, 0 where it was never set.
func (r *Regs) SP() uint64 { return r.v[spOf(r.arch)] }

// SetSP sets the stack pointer.
func (r *Regs) SetSP(sp uint64) { r.Set(spOf(r.arch), sp) }

// SetPACMask says which bits of a code address hold a signature, as the kernel's
// NT_ARM_PAC_MASK has it (its insn_mask). Only for arm64.
func (r *Regs) SetPACMask(mask uint64) { r.pac = mask }

// strip removes the signature of a code address.
func (r *Regs) strip(addr uint64) uint64 { return addr &^ r.pac }

func spOf(a cfi.Arch) int {
	if a == cfi.ARM64 {
		return 31
	}
	return 7
}

// Differ counts the registers that both know and that differ, the program
// counter left out: a loop that gets anywhere changes some.
func (r *Regs) Differ(o *Regs) int {
	n := 0
	pc := 16
	if r.arch == cfi.ARM64 {
		pc = 32
	}
	for i := range r.v {
		if i != pc && r.known&o.known&(1<<i) != 0 && r.v[i] != o.v[i] {
			n++
		}
	}
	return n
}

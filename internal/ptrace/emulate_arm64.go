package ptrace

// emulate makes the instruction that code begins with, where it is one of those
// that functions begin with and that change no more than general registers and
// the stack: nobody else has to stop for it then. It changes r, writes by write,
// and reports whether it did.
func emulate(code []byte, r *Regs, write func(addr uint64, b []byte) error) bool {
	return emulateArm64(code, armRegs{x: &r.Regs, sp: &r.Sp, pc: &r.Pc}, write)
}

package ptrace

func stackPointer(r *Regs) uint64 { return r.Sp }

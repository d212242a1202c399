package ptrace

// SP returns the stack pointer.
func SP(r *Regs) uint64 { return r.Rsp }

// breakInstruction is int3. It leaves the program counter behind itself.
var breakInstruction = patch{0xcc}

const (
	breakSize  = 1
	breakSkips = 1
	// breakCode is si_code of the SIGTRAP for int3: SI_KERNEL (arch/x86/kernel/traps.c, do_int3_user).
	breakCode = 0x80
)

// stepCode reports whether si_code is that of a single step: TRAP_TRACE, or
// TRAP_BRKPT after a system call (arch/x86/kernel/ptrace.c, user_single_step_report).
func stepCode(code int32) bool { return code == 2 || code == 1 }

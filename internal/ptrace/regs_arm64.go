package ptrace

// SP returns the stack pointer.
func SP(r *Regs) uint64 { return r.Sp }

// breakInstruction is brk #0. It leaves the program counter at itself.
var breakInstruction = patch{0x00, 0x00, 0x20, 0xd4}

const (
	breakSize  = 4
	breakSkips = 0
	// breakCode is si_code of the SIGTRAP for brk: TRAP_BRKPT (arch/arm64/kernel/debug-monitors.c, brk_handler).
	breakCode = 1
)

// stepCode reports whether si_code is that of a single step: TRAP_TRACE.
func stepCode(code int32) bool { return code == 2 }

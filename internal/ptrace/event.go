package ptrace

import (
	"fmt"
	"syscall"
)

// Kind says what an [Event] is.
type Kind int

// The kinds of events. In all but Gone the thread stands still until it is
// resumed, stepped or detached.
const (
	// Fork: TID made process Child by fork or clone. Both stand still, Child
	// before its first instruction: its memory is that of the instant of the fork.
	Fork Kind = iota + 1
	// VFork is Fork by a call during which TID waits in the kernel until Child
	// executes a program or ends.
	VFork
	// Exec: PID runs another program; of its threads TID, which is PID, is left.
	Exec
	// Exit: TID is about to end, its memory is still there. Only if asked for ([Session.Report]).
	Exit
	// Breakpoint: TID stands at Addr, before the instruction there ([Session.SetBreakpoint]).
	Breakpoint
	// Stepped: TID made the one instruction that [Session.Step] let it make.
	Stepped
	// SyscallEntry and SyscallExit: see [Session.Syscalls].
	SyscallEntry
	SyscallExit
	// Signal: TID is given Event.Signal when it is resumed. Only if asked for.
	Signal
	// Stopped: TID stands still because of [Session.Interrupt].
	Stopped
	// Gone: PID ended with Status.
	Gone
)

var kinds = [...]string{Fork: "fork", VFork: "vfork", Exec: "exec", Exit: "exit", Breakpoint: "breakpoint", Stepped: "stepped",
	SyscallEntry: "syscall entry", SyscallExit: "syscall exit", Signal: "signal", Stopped: "stopped", Gone: "gone"}

func (k Kind) String() string {
	if k > 0 && int(k) < len(kinds) {
		return kinds[k]
	}
	return fmt.Sprintf("kind %d", int(k))
}

// Event is something that a thread came to.
type Event struct {
	Kind     Kind
	PID, TID int
	// Child is the process that Fork and VFork made; its one thread has the same number.
	Child int
	// Shared: the child of a Fork or VFork uses the parent's memory, not a copy.
	Shared bool
	// Former is the number that the thread of an Exec had before.
	Former int
	// Signal is that of a Signal event.
	Signal syscall.Signal
	// Status is how PID ended (Gone), or is about to (Exit).
	Status syscall.WaitStatus
	// Addr is the breakpoint's.
	Addr uint64
	// Call is set for SyscallEntry (Number and Args) and SyscallExit (Result).
	Call Call
}

// Call is a system call: its number on this processor, its arguments, and its
// result, which is a negative errno after a failure.
type Call struct {
	Number uint64
	Args   [6]uint64
	Result int64
}

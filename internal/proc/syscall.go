package proc

import (
	"fmt"
	"strconv"
	"strings"
)

// Syscall is what /proc/PID/task/TID/syscall says of a thread.
type Syscall struct {
	// Running: the thread was on a processor or waiting for one; nothing else
	// is known then.
	Running bool
	// Outside: the thread sleeps, but in no system call (a page fault, a
	// stop); only SP and PC are known then.
	Outside bool
	Nr      int64
	Args    [6]uint64
	SP, PC  uint64
}

// Syscall reads in which system call a thread sleeps. It needs the permission
// that ptrace needs, and does not stop the thread.
func (f FS) Syscall(pid, tid int) (Syscall, error) {
	b, err := read(f.taskPath(pid, tid, "syscall"))
	if err != nil {
		return Syscall{}, err
	}
	return ParseSyscall(b)
}

// ParseSyscall parses a syscall file.
func ParseSyscall(b []byte) (Syscall, error) {
	var s Syscall
	w := strings.Fields(string(b))
	bad := fmt.Errorf("syscall: %w: %.120q", ErrParse, b)
	if len(w) == 1 && w[0] == "running" {
		s.Running = true
		return s, nil
	}
	if len(w) != 3 && len(w) != 9 {
		return s, bad
	}
	nr, err := strconv.ParseInt(w[0], 10, 64)
	if err != nil || (len(w) == 3) != (nr == -1) {
		return s, bad
	}
	s.Nr, s.Outside = nr, nr == -1
	vals := make([]uint64, 0, 8)
	for _, x := range w[1:] {
		v, err := strconv.ParseUint(x, 0, 64)
		if err != nil {
			return s, bad
		}
		vals = append(vals, v)
	}
	if !s.Outside {
		copy(s.Args[:], vals[:6])
		vals = vals[6:]
	}
	s.SP, s.PC = vals[0], vals[1]
	return s, nil
}

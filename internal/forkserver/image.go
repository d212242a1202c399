package forkserver

import (
	"encoding/binary"
	"fmt"
	"os"

	"forkproof/internal/proc"
)

// ForkedWithoutExec reports whether child was forked from parent, or from
// another copy of it, and neither has called execve since: whether the child's
// memory is a copy of the parent's.
//
// Each execve lays a program out at new random addresses and puts 16 random
// bytes on the stack for the C library (AT_RANDOM of the auxiliary vector);
// fork copies all of that. So where the program file and the addresses of code,
// heap and stack are equal, and those bytes too, one is a copy of the other. The
// kernel also remembers of each process whether it called execve since it was
// forked (PF_FORKNOEXEC); a child that did is no copy. The addresses stand in
// /proc/PID/stat, so that the long maps file need not be read; they are equal
// exactly where those of the mappings are. The random bytes decide where
// addresses are not random (personality ADDR_NO_RANDOMIZE, kernel.randomize_va_space
// 0).
//
// The error says that nothing is known because we may not look into one of them.
func ForkedWithoutExec(fs proc.FS, parent, child Process) (bool, error) {
	if !child.image.noExec || parent.Exe != child.Exe {
		return false, nil
	}
	pi, ci := parent.image, child.image
	if pi.stack == 0 || ci.stack == 0 {
		return false, fmt.Errorf("compare the memory of processes %d and %d: %w", parent.ID.PID, child.ID.PID, errHidden)
	}
	if pi.code != ci.code || pi.stack != ci.stack || pi.brk != ci.brk {
		return false, nil
	}
	addr, err := randomAddr(fs, parent.ID.PID)
	if err != nil {
		return addressesDecide(fs, child.ID.PID)
	}
	a, errA := random(fs, parent.ID.PID, addr)
	b, errB := random(fs, child.ID.PID, addr)
	if errA != nil || errB != nil {
		return addressesDecide(fs, child.ID.PID)
	}
	return a == b, nil
}

var errHidden = fmt.Errorf("the addresses are hidden from us: %w (run as root, or with CAP_SYS_PTRACE)", os.ErrPermission)

// noRandomize is ADDR_NO_RANDOMIZE of personality(2).
const noRandomize = 0x0040000

// addressesDecide is asked where addresses are equal and the random bytes
// cannot be read: it is true where the addresses are random themselves.
func addressesDecide(fs proc.FS, pid int) (bool, error) {
	var personality uint64
	if b, err := os.ReadFile(fs.Path(pid, "personality")); err == nil {
		if _, err := fmt.Sscanf(string(b), "%x", &personality); err != nil {
			return false, fmt.Errorf("personality of process %d: %w", pid, proc.ErrParse)
		}
	}
	if personality&noRandomize != 0 {
		return false, fmt.Errorf("process %d: its addresses are not random, and %w", pid, errHidden)
	}
	return true, nil
}

// atRandom is AT_RANDOM of the auxiliary vector, include/uapi/linux/auxvec.h.
const atRandom = 25

// randomAddr returns where the 16 random bytes of a process's execve lie.
func randomAddr(fs proc.FS, pid int) (uint64, error) {
	b, err := os.ReadFile(fs.Path(pid, "auxv"))
	if err != nil {
		return 0, err
	}
	for ; len(b) >= 16; b = b[16:] {
		if binary.NativeEndian.Uint64(b) == atRandom {
			return binary.NativeEndian.Uint64(b[8:]), nil
		}
	}
	return 0, fmt.Errorf("auxv of process %d has no AT_RANDOM: %w", pid, proc.ErrParse)
}

func random(fs proc.FS, pid int, addr uint64) (r [16]byte, err error) {
	mem, err := os.Open(fs.Path(pid, "mem"))
	if err != nil {
		return r, err
	}
	defer func() { _ = mem.Close() }() // only read
	if int64(addr) < 0 {
		return r, fmt.Errorf("AT_RANDOM of process %d: %w: %#x", pid, proc.ErrParse, addr)
	}
	_, err = mem.ReadAt(r[:], int64(addr))
	return r, err
}

// Package procmem reads the memory of another process from outside, without
// stopping it. What it returns may be torn where the process writes at the same
// time; whoever draws conclusions must have seen it stand still.
package procmem

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// ErrUnmapped is the error for an address at which the process has no readable
// memory.
var ErrUnmapped = errors.New("no readable memory there")

// Reader reads memory at addresses of the target. Like io.ReaderAt it returns
// an error whenever it read less than asked for.
type Reader interface {
	ReadAt(p []byte, addr uint64) (int, error)
}

// Memory is the memory of one process.
type Memory struct{ pid int }

// Open returns the memory of a process. Permission is checked at each read: it
// is that of ptrace (PTRACE_MODE_ATTACH_REALCREDS).
func Open(pid int) *Memory { return &Memory{pid: pid} }

// ReadAt implements Reader by process_vm_readv(2).
func (m *Memory) ReadAt(p []byte, addr uint64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	local := []unix.Iovec{{Base: &p[0]}}
	local[0].SetLen(len(p))
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}
	n, err := unix.ProcessVMReadv(m.pid, local, remote, 0)
	switch {
	case err == nil && n == len(p):
		return n, nil
	case err == nil || errors.Is(err, unix.EFAULT):
		return max(n, 0), fmt.Errorf("read %d bytes at 0x%x of process %d: %w", len(p), addr, m.pid, ErrUnmapped)
	case errors.Is(err, unix.ESRCH):
		return 0, fmt.Errorf("read memory of process %d: %w", m.pid, proc.ErrGone)
	default:
		return 0, fmt.Errorf("read memory of process %d: %w", m.pid, err)
	}
}

// Uint64 reads a little-endian word of 8 bytes.
func Uint64(r Reader, addr uint64) (uint64, error) {
	var b [8]byte
	if _, err := r.ReadAt(b[:], addr); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// Uint32 reads a little-endian word of 4 bytes.
func Uint32(r Reader, addr uint64) (uint32, error) {
	var b [4]byte
	if _, err := r.ReadAt(b[:], addr); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

// Bytes reads n bytes, which must be no more than most: lengths that come from
// a target's memory are not to be believed.
func Bytes(r Reader, addr uint64, n, most int) ([]byte, error) {
	if n < 0 || n > most {
		return nil, fmt.Errorf("read %d bytes at 0x%x: more than the %d expected there", n, addr, most)
	}
	b := make([]byte, n)
	_, err := r.ReadAt(b, addr)
	if err != nil {
		return nil, err
	}
	return b, nil
}

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

const pageSize = 4096

// maxPages bounds a Cache to 16 MiB.
const maxPages = 4096

// Cache reads whole pages and keeps them: for walking stacks and objects, which
// read many small pieces close together. It is not for looking twice at the
// same word.
type Cache struct {
	r     Reader
	pages map[uint64][]byte
}

// Cached returns a cache over r, not safe for concurrent use.
func Cached(r Reader) *Cache { return &Cache{r: r, pages: make(map[uint64][]byte)} }

// Drop forgets all that was read.
func (c *Cache) Drop() { clear(c.pages) }

// ReadAt implements Reader.
func (c *Cache) ReadAt(p []byte, addr uint64) (int, error) {
	done := 0
	for done < len(p) {
		at := addr + uint64(done)
		base := at &^ (pageSize - 1)
		page, ok := c.pages[base]
		if !ok {
			if len(c.pages) >= maxPages {
				clear(c.pages)
			}
			// Neighbouring pages come along: stacks and heaps are walked in
			// order, and one call costs more than the copy.
			buf := make([]byte, 4*pageSize)
			n, _ := c.r.ReadAt(buf, base)
			if n < pageSize {
				var err error
				if n, err = c.r.ReadAt(buf[:pageSize], base); n < pageSize {
					return done, err
				}
			}
			for i := 0; i+pageSize <= n; i += pageSize {
				c.pages[base+uint64(i)] = buf[i : i+pageSize]
			}
			page = c.pages[base]
		}
		done += copy(p[done:], page[at-base:])
	}
	return done, nil
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

package proc

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// ErrOtherView is the error for a proc file system that numbers processes
// differently than system calls of this process do.
var ErrOtherView = errors.New("/proc does not belong to the PID namespace that forkproof runs in")

// Own reports whether the numbers in this proc file system are those that system
// calls of this process understand. They are not after unshare --pid without a
// new /proc, nor after nsenter --mount without --pid: reading memory by number
// would then read another process's. The error wraps ErrOtherView.
func (f FS) Own() error {
	link, err := os.Readlink(filepath.Join(f.root, "self"))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(filepath.Join(f.root, "self")); err != nil {
			return fmt.Errorf("%s is no proc file system (mount one: mount -t proc proc %s): %w", f.root, f.root, err)
		}
		// The kernel has no number for us there.
		return fmt.Errorf("%w: use nsenter with --pid and --mount together, or mount a new one: mount -t proc proc %s", ErrOtherView, f.root)
	}
	if err != nil {
		return fmt.Errorf("%s is no proc file system (mount one: mount -t proc proc %s): %w", f.root, f.root, err)
	}
	if link != strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("%w: forkproof is process %d, and %s there; use nsenter with --pid and --mount together, or mount a new one: mount -t proc proc %s",
			ErrOtherView, os.Getpid(), link, f.root)
	}
	return nil
}

// Program is what the ELF header of a running program says.
type Program struct {
	// Bits is 64 or 32.
	Bits    int
	Machine elf.Machine
}

// String names the kind of program: "64-bit x86-64".
func (p Program) String() string {
	name := p.Machine.String()
	switch p.Machine {
	case elf.EM_X86_64:
		name = "x86-64"
		if p.Bits == 32 {
			name = "x32"
		}
	case elf.EM_386:
		name = "i386"
	case elf.EM_AARCH64:
		name = "arm64"
	case elf.EM_ARM:
		name = "arm"
	}
	return strconv.Itoa(p.Bits) + "-bit " + name
}

// Program reads of what kind a process's program is, through /proc/PID/exe, which
// leads to the very file even where it was removed or replaced. The system calls
// of a 32-bit program have other numbers, and its memory other layouts, than
// those of a 64-bit one: nothing that is known of the latter may be applied to it.
func (f FS) Program(pid int) (Program, error) {
	file, err := os.Open(f.Path(pid, "exe"))
	if err != nil {
		return Program{}, gone(err)
	}
	defer func() { _ = file.Close() }() // only read
	var h [20]byte
	if _, err := io.ReadFull(file, h[:]); err != nil {
		return Program{}, fmt.Errorf("read the program of process %d: %w", pid, err)
	}
	return parseProgram(h)
}

// parseProgram parses the beginning of an ELF file: e_ident and e_machine.
func parseProgram(h [20]byte) (Program, error) {
	var p Program
	switch {
	case string(h[:4]) != elf.ELFMAG:
		return p, fmt.Errorf("no ELF file: %w: %.8q", ErrParse, h[:])
	case elf.Class(h[elf.EI_CLASS]) == elf.ELFCLASS64:
		p.Bits = 64
	case elf.Class(h[elf.EI_CLASS]) == elf.ELFCLASS32:
		p.Bits = 32
	default:
		return p, fmt.Errorf("ELF class: %w: %d", ErrParse, h[elf.EI_CLASS])
	}
	m := uint16(h[18]) | uint16(h[19])<<8
	if elf.Data(h[elf.EI_DATA]) == elf.ELFDATA2MSB {
		m = m<<8 | m>>8
	}
	p.Machine = elf.Machine(m)
	return p, nil
}

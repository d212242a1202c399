package libc

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"

	"forkproof/internal/disasm"
	"forkproof/internal/elffile"
	"forkproof/internal/procmem"
)

// ForkHandler is an entry of the list that a C library keeps of what was given
// to pthread_atfork. Addresses are those of the process, 0 for none.
type ForkHandler struct {
	Prepare, Parent, Child uint64
	// DSO is an address in the library that registered, by which it is taken out
	// when the library is unloaded; 0 for the program itself where that is not
	// position-independent.
	DSO uint64
}

// ErrNoForkHandlers wraps why the list cannot be found.
var ErrNoForkHandlers = errors.New("where this C library keeps its fork handlers is not known")

// maxForkHandlers bounds the list. Each library of a process has one or two.
const maxForkHandlers = 1 << 16

// ForkHandlersAt finds glibc's list in its file: the virtual address of the
// static variable fork_handlers (nptl/register-atfork.c, since 2.35
// posix/register-atfork.c). It has been an array that grows, {used, allocated,
// array, 48 entries}, since 2.28 (commit 27761a1042); before, and in musl, it is a
// linked list, which is not known here: ErrNoForkHandlers.
//
// No symbol of a stripped library names it. __register_atfork, which is
// exported, is the one function that reads its length, reads its pointer two words
// further, and takes the address of the word behind that.
func ForkHandlersAt(f *elffile.File) (uint64, error) {
	syms, err := f.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoForkHandlers, err)
	}
	_, s, ok, err := syms.Find("__register_atfork")
	if err != nil || !ok || s.Size == 0 || s.Size > 1<<16 {
		return 0, fmt.Errorf("it exports no __register_atfork: %w", ErrNoForkHandlers)
	}
	code, err := f.BytesAt(s.Value, s.Size)
	if err != nil {
		return 0, fmt.Errorf("code of __register_atfork: %w", err)
	}
	arch := disasm.AMD64
	if f.Machine() == elf.EM_AARCH64 {
		arch = disasm.ARM64
	}
	read, taken := references(arch, code, s.Value)
	var found []uint64
	for at := range read {
		if at%8 == 0 && read[at+16] && taken[at+24] {
			found = append(found, at)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("__register_atfork has %d places that look like it: %w", len(found), ErrNoForkHandlers)
	}
	return found[0], nil
}

// references are the addresses that code reads or writes, and those that it
// takes.
func references(arch disasm.Arch, code []byte, addr uint64) (read, taken map[uint64]bool) {
	read, taken = make(map[uint64]bool), make(map[uint64]bool)
	var known [32]uint64 // of AArch64, where an address takes two instructions
	for at := 0; at < len(code); {
		in := disasm.Decode(arch, code[at:], addr+uint64(at))
		at += in.Len
		if arch == disasm.AMD64 {
			switch {
			case in.Ref == 0:
			case in.Op == disasm.Const:
				taken[in.Ref] = true
			default:
				read[in.Ref] = true
			}
			continue
		}
		base := uint64(0)
		if in.Src < 32 {
			base = known[in.Src]
		}
		switch {
		case in.Op == disasm.Page:
			known[in.Dst] = uint64(in.Imm)
			continue
		case in.Op == disasm.Add && base != 0:
			known[in.Dst] = base + uint64(in.Imm)
			taken[known[in.Dst]] = true
			continue
		case in.Op == disasm.Move && base != 0:
			known[in.Dst] = base
			continue
		case (in.Op == disasm.Load || in.Op == disasm.LoadPair || in.Op == disasm.Store || in.Op == disasm.StorePair) && base != 0:
			read[base+uint64(in.Imm)] = true
			if in.Op == disasm.LoadPair || in.Op == disasm.StorePair {
				read[base+uint64(in.Imm)+8] = true
			}
		}
		for r := range known {
			if in.Writes&(1<<r) != 0 {
				known[r] = 0
			}
		}
	}
	return read, taken
}

// ForkHandlers reads glibc's list at its run-time address, in the order in
// which the handlers were registered. The process may change it meanwhile: what
// makes no sense is an error, and can be asked again.
func ForkHandlers(mem procmem.Reader, at uint64) ([]ForkHandler, error) {
	var head [24]byte
	if _, err := mem.ReadAt(head[:], at); err != nil {
		return nil, fmt.Errorf("list of fork handlers at %#x: %w", at, err)
	}
	used, allocated, array := binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint64(head[8:]), binary.LittleEndian.Uint64(head[16:])
	if used == 0 {
		return nil, nil
	}
	if used > allocated || used > maxForkHandlers || array == 0 {
		return nil, fmt.Errorf("list of fork handlers at %#x: %d of %d at %#x, which cannot be", at, used, allocated, array)
	}
	// 2.36, and packages with its fix of BZ-24595, added a number to each entry,
	// which counts up from 1. Before, the entries lie closer, and the same place
	// holds the next one's handler or nothing.
	raw := make([]byte, used*40)
	if n, err := mem.ReadAt(raw, array); err != nil && uint64(n) < used*32 {
		return nil, fmt.Errorf("%d fork handlers at %#x: %w", used, array, err)
	}
	size := uint64(40)
	for i, last := uint64(0), uint64(0); i < used; i++ {
		id := binary.LittleEndian.Uint64(raw[i*40+32:])
		if id <= last || id > 1<<32 {
			size = 32
			break
		}
		last = id
	}
	out := make([]ForkHandler, used)
	for i := range out {
		p := raw[uint64(i)*size:]
		out[i] = ForkHandler{
			Prepare: binary.LittleEndian.Uint64(p), Parent: binary.LittleEndian.Uint64(p[8:]),
			Child: binary.LittleEndian.Uint64(p[16:]), DSO: binary.LittleEndian.Uint64(p[24:]),
		}
	}
	return out, nil
}

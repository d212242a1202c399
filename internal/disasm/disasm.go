// Package disasm decodes machine code of x86-64 and AArch64 as far as it takes
// to follow calls and constants: how long an instruction is, where it goes on,
// and which registers it sets to what. It knows every instruction's length but
// not every instruction's meaning: of one that it does not understand it says
// which registers may have changed.
//
// It is our own since golang.org/x/arch (v0.32.0) knows neither ENDBR64, with
// which every function of a distribution's library begins, nor a part of AVX
// (1 % of OpenBLAS), nor ARM's BRAA, RETAA and atomics, and is twenty times slower
// than what a search through a gigabyte of libraries needs. Its tests compare it
// with objdump, instruction by instruction.
//
// Every byte is foreign: what cannot be decoded is an instruction of kind Bad.
package disasm

import (
	"encoding/binary"
	"fmt"
)

// Arch is the processor that code is for.
type Arch uint8

// The architectures.
const (
	AMD64 Arch = iota + 1
	ARM64
)

func (a Arch) String() string {
	switch a {
	case AMD64:
		return "amd64"
	case ARM64:
		return "arm64"
	}
	return fmt.Sprintf("arch(%d)", uint8(a))
}

// Reg is a general register by its number in the machine code: RAX, RCX, RDX,
// RBX, RSP, RBP, RSI, RDI, R8 ... on x86-64; X0 to X30 and 31 for SP on AArch64.
type Reg uint8

// NoReg is no register.
const NoReg Reg = 0xff

// The stack pointers, and the frame pointer and accumulator of x86-64.
const (
	RAX Reg = 0
	RSP Reg = 4
	RBP Reg = 5
	SP  Reg = 31
)

// Args are the registers that pass the first arguments, by System V's ABI and
// by AAPCS64: six on x86-64, eight on AArch64.
func (a Arch) Args() []Reg {
	if a == ARM64 {
		return []Reg{0, 1, 2, 3, 4, 5, 6, 7}
	}
	return []Reg{7, 6, 2, 1, 8, 9}
}

// Stack is the stack pointer.
func (a Arch) Stack() Reg {
	if a == ARM64 {
		return SP
	}
	return RSP
}

// CallClobbers has a bit for each register that a called function may change.
func (a Arch) CallClobbers() uint32 {
	if a == ARM64 {
		return 0x4007ffff // x0 to x18, x30
	}
	return 0x0fc7 // rax, rcx, rdx, rsi, rdi, r8 to r11
}

// Kind says where an instruction goes on.
type Kind uint8

// The kinds.
const (
	// Next: with the one behind it.
	Next Kind = iota
	Call
	Jump
	// Branch is a conditional jump.
	Branch
	Return
	// Stop: it never goes on, as with UD2 and HLT.
	Stop
	// Bad cannot be decoded.
	Bad
)

// Op is what an instruction does with registers.
type Op uint8

// The operations. Widths are 8 bytes if nothing else is said.
const (
	// Other changes the registers of Writes to something unknown.
	Other Op = iota
	// Const: Dst = Imm, which is an address where it was formed from the
	// program counter.
	Const
	// Page: Dst = Imm, the start of a page of 4 KiB (ADRP), to which an offset
	// is yet to be added.
	Page
	// Move: Dst = Src.
	Move
	// Select: Dst = Src or Idx.
	Select
	// Add: Dst = Src + Imm.
	Add
	// Index: Dst = Src or Idx plus something unknown.
	Index
	// Load: Dst = the 8 bytes at Src + Imm, or at Imm where Src is NoReg; where Idx
	// is a register that is added too, perhaps scaled.
	Load
	// LoadPair: Dst and Dst2 = the 16 bytes at Src + Imm.
	LoadPair
	// Store: the 8 bytes at that place become Dst.
	Store
	// StorePair: the 16 bytes at Src + Imm become Dst and Dst2.
	StorePair
	// Push and Pop are those of x86-64.
	Push
	Pop
)

// Inst is one instruction.
type Inst struct {
	Addr uint64
	// Len is the length in bytes, at least 1 also of a Bad one.
	Len  int
	Kind Kind
	// Target is where a Call, Jump or Branch goes; meaningless where Indirect.
	Target uint64
	// Indirect: a Call or Jump goes to what the register Src has, or, with Mem, to
	// what the memory at Src + Imm has, or at Imm where Src is NoReg.
	Indirect, Mem bool

	Op        Op
	Dst, Dst2 Reg
	// Src is the base register; Idx is one more that is added, scaled or not.
	Src, Idx Reg
	Imm      int64
	// PostAdd is what is added to the base register after (or, of an AArch64
	// pre-index, with) the access.
	PostAdd int64
	// Writes has a bit for each general register that the instruction may
	// change, those of Op included.
	Writes uint32
	// Segment: the memory operand is relative to FS or GS.
	Segment bool
	// Ref is the address that a memory operand relative to the program counter
	// names, 0 where there is none.
	Ref uint64
}

// End is the address behind the instruction.
func (i *Inst) End() uint64 { return i.Addr + uint64(i.Len) }

// Decode decodes the first instruction of code, which lies at addr. An empty
// code gives a Bad instruction of length 1.
func Decode(arch Arch, code []byte, addr uint64) Inst {
	if arch == ARM64 {
		return decodeARM64(code, addr)
	}
	return decodeAMD64(code, addr)
}

func bad(addr uint64, n int) Inst {
	return Inst{Addr: addr, Len: max(n, 1), Kind: Bad, Dst: NoReg, Dst2: NoReg, Src: NoReg, Idx: NoReg, Writes: ^uint32(0)}
}

func s32(b []byte) int64 { return int64(int32(binary.LittleEndian.Uint32(b))) }

package ptrace

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/arch/x86/x86asm"
)

// emulate makes the instruction that code begins with, where it is one of those
// that functions begin with and that change no more than general registers and
// the stack: nobody else has to stop for it then. It changes r, writes by write,
// and reports whether it did.
func emulate(code []byte, r *Regs, write func(addr uint64, b []byte) error) bool {
	if bytes.HasPrefix(code, []byte{0xf3, 0x0f, 0x1e, 0xfa}) { // endbr64
		r.Rip += 4
		return true
	}
	in, err := x86asm.Decode(code, 64)
	if err != nil || in.Prefix[0]&0xff != 0 && in.Prefix[0]&0xf0 != x86asm.PrefixREX {
		return false
	}
	next := r.Rip + uint64(in.Len)
	switch in.Op {
	case x86asm.PUSH:
		from, ok := in.Args[0].(x86asm.Reg)
		v := register(r, from)
		if !ok || v == nil {
			return false
		}
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], *v)
		if write(r.Rsp-8, b[:]) != nil {
			return false // the stack may have to grow: the processor's business
		}
		r.Rsp -= 8
	case x86asm.MOV:
		to, ok1 := in.Args[0].(x86asm.Reg)
		from, ok2 := in.Args[1].(x86asm.Reg)
		if !ok1 || !ok2 {
			return false
		}
		d, v := register(r, to), register(r, from)
		if d == nil || v == nil {
			return false
		}
		*d = *v
	case x86asm.LEA:
		to, ok1 := in.Args[0].(x86asm.Reg)
		m, ok2 := in.Args[1].(x86asm.Mem)
		d := register(r, to)
		if !ok1 || !ok2 || d == nil || m.Segment != 0 || in.AddrSize != 64 {
			return false
		}
		addr := uint64(int64(int32(m.Disp))) // x86asm does not extend it by its sign behind rip
		if m.Base == x86asm.RIP {
			addr += next
		} else if m.Base != 0 {
			v := register(r, m.Base)
			if v == nil {
				return false
			}
			addr += *v
		}
		if m.Index != 0 {
			v := register(r, m.Index)
			if v == nil {
				return false
			}
			addr += *v * uint64(m.Scale)
		}
		*d = addr
	default:
		return false // also sub, xor and test: they set flags
	}
	r.Rip = next
	return true
}

// register returns a register of 64 bits, nil for another.
func register(r *Regs, reg x86asm.Reg) *uint64 {
	switch reg {
	case x86asm.RAX:
		return &r.Rax
	case x86asm.RCX:
		return &r.Rcx
	case x86asm.RDX:
		return &r.Rdx
	case x86asm.RBX:
		return &r.Rbx
	case x86asm.RSP:
		return &r.Rsp
	case x86asm.RBP:
		return &r.Rbp
	case x86asm.RSI:
		return &r.Rsi
	case x86asm.RDI:
		return &r.Rdi
	case x86asm.R8:
		return &r.R8
	case x86asm.R9:
		return &r.R9
	case x86asm.R10:
		return &r.R10
	case x86asm.R11:
		return &r.R11
	case x86asm.R12:
		return &r.R12
	case x86asm.R13:
		return &r.R13
	case x86asm.R14:
		return &r.R14
	case x86asm.R15:
		return &r.R15
	}
	return nil
}

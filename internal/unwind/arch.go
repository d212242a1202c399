package unwind

import (
	"encoding/binary"
	"fmt"

	"forkproof/internal/cfi"
)

// arch is what differs between processors.
type arch struct {
	sp, fp int
	// ra is the register that holds the return address within a leaf, -1 where
	// calls push it.
	ra int
	// preserved are the registers that a function must leave as they were; a
	// caller's others are lost where no rule tells of them.
	preserved uint64
	// leaf: a function may have no frame on the stack at all.
	leaf bool
	// call decodes the call before a return address.
	call func(m *memory, ra uint64) call
	// hop follows a stub or a jump that code at addr consists of.
	hop func(m *memory, addr uint64) (uint64, bool)
	// trampoline is the code that ends a signal handler: a system call.
	trampolines [][]byte
	// sigregs is where a signal frame keeps registers: offsets from the stack
	// pointer at the trampoline, by DWARF number, and that of the counter.
	sigregs map[int]uint64
	sigpc   uint64
}

func archOf(a cfi.Arch) (*arch, error) {
	switch a {
	case cfi.AMD64:
		return &amd64, nil
	case cfi.ARM64:
		return &arm64, nil
	}
	return nil, fmt.Errorf("stacks of %v cannot be walked", a)
}

func bits(ns ...int) uint64 {
	var v uint64
	for _, n := range ns {
		v |= 1 << n
	}
	return v
}

// amd64 is the System V ABI. The layout of its signal frame is that of struct
// rt_sigframe in Linux's arch/x86: the handler's return address, then a
// ucontext whose registers start 40 bytes in.
var amd64 = arch{
	sp: 7, fp: 6, ra: -1,
	preserved: bits(3, 6, 12, 13, 14, 15),
	call:      callAMD64,
	hop:       hopAMD64,
	trampolines: [][]byte{
		{0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05}, // mov $15,%rax; syscall: glibc, musl
		{0xb8, 15, 0, 0, 0, 0x0f, 0x05},             // mov $15,%eax; syscall
	},
	sigregs: map[int]uint64{
		8: 40, 9: 48, 10: 56, 11: 64, 12: 72, 13: 80, 14: 88, 15: 96,
		5: 104, 4: 112, 6: 120, 3: 128, 1: 136, 0: 144, 2: 152, 7: 160,
	},
	sigpc: 168,
}

// arm64 is AAPCS64. The signal frame is struct rt_sigframe in Linux's
// arch/arm64: 128 bytes of siginfo, then a ucontext whose registers start 184
// bytes in.
var arm64 = arch{
	sp: 31, fp: 29, ra: 30,
	preserved: bits(19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30),
	leaf:      true,
	call:      callARM64,
	hop:       hopARM64,
	trampolines: [][]byte{
		{0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4}, // mov x8, #139; svc #0
	},
	sigregs: func() map[int]uint64 {
		m := map[int]uint64{}
		for i := range 32 {
			m[i] = 312 + 8*uint64(i)
		}
		return m
	}(),
	sigpc: 312 + 8*32,
}

// trampoline reports whether code at pc is one that ends signal handlers.
func (w *walker) trampoline(pc uint64) bool {
	var b [16]byte
	for _, t := range w.arch.trampolines {
		if w.mem.read(b[:len(t)], pc) == nil && string(b[:len(t)]) == string(t) {
			return true
		}
	}
	return false
}

// sigreturn restores the registers that the kernel saved for a signal handler,
// where the trampoline has no tables.
func (w *walker) sigreturn(regs *Regs) (Regs, uint64, error) {
	next := Regs{arch: regs.arch, pac: regs.pac}
	sp := regs.SP()
	for n, off := range w.arch.sigregs {
		v, err := w.mem.load(sp+off, 8)
		if err != nil {
			return Regs{}, 0, fmt.Errorf("signal frame: %w", err)
		}
		next.Set(n, v)
	}
	pc, err := w.mem.load(sp+w.arch.sigpc, 8)
	if err != nil {
		return Regs{}, 0, fmt.Errorf("signal frame: %w", err)
	}
	next.setPC(pc)
	return next, next.SP(), nil
}

// call is the call instruction before a return address.
type call struct {
	ok bool
	// target is where a direct call goes, or, with slot, the memory that holds
	// where it goes; 0 for a call through a register.
	target uint64
	slot   bool
}

// callAMD64 decodes what ends at ra, from the Intel manual: E8 is a near call
// relative to its end, FF /2 one through a register or memory.
func callAMD64(m *memory, ra uint64) call {
	var b [8]byte
	if m.read(b[:], ra-8) != nil {
		return call{}
	}
	if b[3] == 0xe8 {
		return call{ok: true, target: ra + uint64(int64(int32(binary.LittleEndian.Uint32(b[4:]))))}
	}
	if b[2] == 0xff && b[3] == 0x15 {
		return call{ok: true, slot: true, target: ra + uint64(int64(int32(binary.LittleEndian.Uint32(b[4:]))))}
	}
	for n := 2; n <= 7; n++ {
		op := b[8-n:]
		if op[0] == 0xff && op[1]>>3&7 == 2 && lengthFF(op) == n {
			return call{ok: true}
		}
	}
	return call{}
}

// lengthFF is the length of an instruction of opcode FF by its ModRM and SIB.
func lengthFF(b []byte) int {
	mod, rm, n := b[1]>>6, b[1]&7, 2
	if mod != 3 && rm == 4 {
		if len(b) < 3 {
			return 0
		}
		n++
		if mod == 0 && b[2]&7 == 5 {
			n += 4
		}
	}
	switch {
	case mod == 1:
		n++
	case mod == 2, mod == 0 && rm == 5:
		n += 4
	}
	return n
}

// hopAMD64 follows a PLT stub (jmp through the GOT, with or without ENDBR64 and
// BND before) or a plain jump.
func hopAMD64(m *memory, addr uint64) (uint64, bool) {
	var b [16]byte
	if m.read(b[:], addr) != nil {
		return 0, false
	}
	i := 0
	if string(b[:4]) == "\xf3\x0f\x1e\xfa" {
		i = 4
	}
	if b[i] == 0xf2 {
		i++
	}
	end := addr + uint64(i)
	switch {
	case b[i] == 0xff && b[i+1] == 0x25:
		slot := end + 6 + uint64(int64(int32(binary.LittleEndian.Uint32(b[i+2:]))))
		to, err := m.load(slot, 8)
		return to, err == nil
	case b[i] == 0xe9:
		return end + 5 + uint64(int64(int32(binary.LittleEndian.Uint32(b[i+1:])))), true
	case b[i] == 0xeb:
		return end + 2 + uint64(int64(int8(b[i+1]))), true
	}
	return 0, false
}

// callARM64 decodes BL, BLR and the signed forms of BLR.
func callARM64(m *memory, ra uint64) call {
	v, err := m.load(ra-4, 4)
	if err != nil || ra%4 != 0 {
		return call{}
	}
	ins := uint32(v)
	switch {
	case ins>>26 == 0x25:
		return call{ok: true, target: ra - 4 + uint64(int64(int32(ins<<6)>>6)*4)}
	case ins&0xfffffc1f == 0xd63f0000, ins&0xfefff800 == 0xd63f0800:
		return call{ok: true}
	}
	return call{}
}

// hopARM64 follows a PLT stub (ADRP, LDR, ADD, BR, with or without BTI before)
// or a plain branch.
func hopARM64(m *memory, addr uint64) (uint64, bool) {
	var b [12]byte
	if addr%4 != 0 || m.read(b[:], addr) != nil {
		return 0, false
	}
	ins := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	i := 0
	if ins(0) == 0xd503245f { // bti c
		i = 1
	}
	at := addr + uint64(4*i)
	first := ins(i)
	if first>>26 == 0x05 { // b
		return at + uint64(int64(int32(first<<6)>>6)*4), true
	}
	second := ins(i + 1)
	if first&0x9f00001f != 0x90000010 || second&0xffc003ff != 0xf9400211 { // adrp x16; ldr x17, [x16, #n]
		return 0, false
	}
	imm := int64(int32(first<<8)>>13)<<2 | int64(first>>29&3)
	slot := at&^0xfff + uint64(imm<<12) + uint64(second>>10&0xfff)*8
	to, err := m.load(slot, 8)
	return to, err == nil
}

package disasm_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"forkproof/internal/disasm"
)

// TestMeaning has the instructions by which compilers pass addresses, with the
// bytes that GNU as makes of them.
func TestMeaning(t *testing.T) {
	const none = disasm.NoReg
	for _, tt := range []struct {
		arch disasm.Arch
		code string
		text string
		want disasm.Inst
	}{
		{disasm.AMD64, "48 8d 3d 10 00 00 00", "lea 0x10(%rip),%rdi", disasm.Inst{Op: disasm.Const, Dst: 7, Src: none, Idx: none, Imm: 0x1017, Writes: 1 << 7}},
		{disasm.AMD64, "31 d2", "xor %edx,%edx", disasm.Inst{Op: disasm.Const, Dst: 2, Src: none, Idx: none, Writes: 1 << 2}},
		{disasm.AMD64, "bf 00 10 40 00", "mov $0x401000,%edi", disasm.Inst{Op: disasm.Const, Dst: 7, Src: none, Idx: none, Imm: 0x401000, Writes: 1 << 7}},
		{disasm.AMD64, "49 c7 c0 ff ff ff ff", "mov $-1,%r8", disasm.Inst{Op: disasm.Const, Dst: 8, Src: none, Idx: none, Imm: -1, Writes: 1 << 8}},
		{disasm.AMD64, "48 8b 05 00 01 00 00", "mov 0x100(%rip),%rax", disasm.Inst{Op: disasm.Load, Dst: 0, Src: none, Idx: none, Imm: 0x1107, Writes: 1}},
		{disasm.AMD64, "48 89 7d f8", "mov %rdi,-8(%rbp)", disasm.Inst{Op: disasm.Store, Dst: 7, Src: 5, Idx: none, Imm: -8}},
		{disasm.AMD64, "4c 89 e7", "mov %r12,%rdi", disasm.Inst{Op: disasm.Move, Dst: 7, Src: 12, Idx: none, Writes: 1 << 7}},
		{disasm.AMD64, "48 0f 44 f8", "cmove %rax,%rdi", disasm.Inst{Op: disasm.Select, Dst: 7, Src: 0, Idx: 7, Writes: 1 << 7}},
		{disasm.AMD64, "48 83 ec 28", "sub $0x28,%rsp", disasm.Inst{Op: disasm.Add, Dst: 4, Src: 4, Idx: none, Imm: -0x28, Writes: 1 << 4}},
		{disasm.AMD64, "48 39 c7", "cmp %rax,%rdi", disasm.Inst{Dst: none, Src: none, Idx: none}},
		{disasm.AMD64, "85 f6", "test %esi,%esi", disasm.Inst{Dst: none, Src: none, Idx: none}},
		{disasm.AMD64, "0f b6 f8", "movzbl %al,%edi", disasm.Inst{Dst: none, Src: none, Idx: none, Writes: 1 << 7}},
		{disasm.AMD64, "64 48 8b 04 25 28 00 00 00", "mov %fs:0x28,%rax", disasm.Inst{Dst: 0, Src: none, Idx: none, Writes: 1, Segment: true}},
		{disasm.AMD64, "ff 50 10", "call *0x10(%rax)", disasm.Inst{Kind: disasm.Call, Indirect: true, Mem: true, Dst: none, Src: 0, Idx: none, Imm: 0x10}},
		{disasm.AMD64, "3e ff e0", "notrack jmp *%rax", disasm.Inst{Kind: disasm.Jump, Indirect: true, Dst: none, Src: 0, Idx: none}},
		{disasm.AMD64, "f2 ff 25 00 01 00 00", "bnd jmp *0x100(%rip)", disasm.Inst{Kind: disasm.Jump, Indirect: true, Mem: true, Dst: none, Src: none, Idx: none, Imm: 0x1107}},
		{disasm.AMD64, "c4 e2 f0 f2 c2", "andn %rdx,%rcx,%rax", disasm.Inst{Dst: none, Src: none, Idx: none, Writes: 1 | 1<<1 | 1<<2}},
		{disasm.ARM64, "00 00 00 b0", "adrp x0,0x2000", disasm.Inst{Op: disasm.Page, Dst: 0, Src: none, Idx: none, Imm: 0x2000, Writes: 1}},
		{disasm.ARM64, "00 40 00 91", "add x0,x0,#0x10", disasm.Inst{Op: disasm.Add, Dst: 0, Src: 0, Idx: none, Imm: 16, Writes: 1}},
		{disasm.ARM64, "11 08 40 f9", "ldr x17,[x0,#16]", disasm.Inst{Op: disasm.Load, Dst: 17, Src: 0, Idx: none, Imm: 16, Writes: 1 << 17}},
		{disasm.ARM64, "02 00 80 d2", "mov x2,#0", disasm.Inst{Op: disasm.Const, Dst: 2, Src: none, Idx: none, Writes: 1 << 2}},
		{disasm.ARM64, "e0 03 13 aa", "mov x0,x19", disasm.Inst{Op: disasm.Move, Dst: 0, Src: 19, Idx: none, Writes: 1}},
		{disasm.ARM64, "fd 7b be a9", "stp x29,x30,[sp,#-32]!", disasm.Inst{Op: disasm.StorePair, Dst: 29, Dst2: 30, Src: 31, Idx: none, Imm: -32, PostAdd: -32, Writes: 1 << 31}},
		{disasm.ARM64, "fd 7b c2 a8", "ldp x29,x30,[sp],#32", disasm.Inst{Op: disasm.LoadPair, Dst: 29, Dst2: 30, Src: 31, Idx: none, PostAdd: 32, Writes: 1<<29 | 1<<30 | 1<<31}},
		{disasm.ARM64, "1f 0a 1f d6", "braa x16,x31", disasm.Inst{Kind: disasm.Jump, Indirect: true, Dst: none, Src: 16, Idx: none}},
		{disasm.ARM64, "ff 0b 5f d6", "retaa", disasm.Inst{Kind: disasm.Return, Dst: none, Src: none, Idx: none}},
		{disasm.ARM64, "20 00 3f d6", "blr x1", disasm.Inst{Kind: disasm.Call, Indirect: true, Dst: none, Src: 1, Idx: none, Writes: 1 << 30}},
		{disasm.ARM64, "3f 23 03 d5", "paciasp", disasm.Inst{Dst: none, Src: none, Idx: none}},
		{disasm.ARM64, "20 00 e1 b8", "ldaddal w1,w0,[x1]", disasm.Inst{Dst: none, Src: none, Idx: none, Writes: 1}},
	} {
		code, err := hex.DecodeString(strings.ReplaceAll(tt.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got := disasm.Decode(tt.arch, code, 0x1000)
		want := tt.want
		want.Addr, want.Len = 0x1000, len(code)
		if want.Dst2 == 0 {
			want.Dst2 = none
		}
		// Where nothing is read, what the fields have does not matter.
		got.Ref, got.Target = 0, 0
		if got.Op == disasm.Other && !got.Indirect {
			got.Src, got.Idx, got.Imm, got.Dst = none, none, 0, want.Dst
		}
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.text, got, want)
		}
	}
}

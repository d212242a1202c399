package disasm

import "encoding/binary"

func (in *Inst) write(r Reg) { in.Writes |= 1 << (r & 31) }

// writeRM marks the register that r/m names, if it is one.
func (d *x86) writeRM(in *Inst) {
	if d.mod == 3 {
		in.write(Reg(d.rm))
	}
}

// byteReg is the register that an 8-bit operand is part of: without REX the
// numbers 4 to 7 are AH, CH, DH and BH.
func (d *x86) byteReg(r byte) Reg {
	if d.rex == 0 && r >= 4 && r < 8 {
		return Reg(r - 4)
	}
	return Reg(r)
}

func (d *x86) load(in *Inst) {
	in.Dst = Reg(d.reg)
	in.write(in.Dst)
	if d.mod == 3 {
		if d.wide {
			in.Op, in.Src = Move, Reg(d.rm)
		}
		return
	}
	if d.wide && d.memory(in) {
		in.Op = Load
		return
	}
	in.Src, in.Idx, in.Imm = NoReg, NoReg, 0
}

func (d *x86) constant(in *Inst, r Reg, v int64) {
	in.Op, in.Dst, in.Imm = Const, r, v
	in.write(r)
}

// meaning tells what the one-byte opcodes do.
func (d *x86) meaning(in *Inst, op byte, immAt, n int) {
	imm := func() int64 {
		switch n {
		case 1:
			return int64(int8(d.code[immAt]))
		case 2:
			return int64(int16(binary.LittleEndian.Uint16(d.code[immAt:])))
		case 4:
			return s32(d.code[immAt:])
		case 8:
			return int64(binary.LittleEndian.Uint64(d.code[immAt:]))
		}
		return 0
	}
	rm := Reg(d.rm)
	switch {
	case op < 0x40:
		d.arithmetic(in, op)
	case op >= 0x50 && op <= 0x57:
		in.Op, in.Dst = Push, Reg(op&7|d.rex<<3&8)
		in.write(RSP)
	case op >= 0x58 && op <= 0x5f:
		in.Op, in.Dst = Pop, Reg(op&7|d.rex<<3&8)
		in.Writes = 1<<RSP | 1<<in.Dst
	case op == 0x63, op == 0x69, op == 0x6b:
		in.write(Reg(d.reg))
	case op == 0x68, op == 0x6a, op == 0x9c:
		in.Op, in.Dst = Push, NoReg
		in.write(RSP)
	case op == 0x9d:
		in.Op, in.Dst = Pop, NoReg
		in.write(RSP)
	case op >= 0x6c && op <= 0x6f, op >= 0xa4 && op <= 0xa7, op >= 0xaa && op <= 0xaf:
		in.Writes = 1<<6 | 1<<7 | 1<<1 | 1<<RAX // RSI, RDI, RCX, and RAX of LODS
	case op >= 0x70 && op <= 0x7f, op >= 0xe0 && op <= 0xe3:
		in.Kind, in.Target = Branch, uint64(int64(in.End())+imm())
		if op >= 0xe0 && op <= 0xe2 {
			in.write(1)
		}
	case op == 0x80, op == 0x81, op == 0x83:
		if d.reg&7 == 7 { // CMP
			return
		}
		if d.mod != 3 {
			return
		}
		in.write(rm)
		if d.wide && (d.reg&7 == 0 || d.reg&7 == 5) && op != 0x80 {
			in.Op, in.Dst, in.Src, in.Imm = Add, rm, rm, imm()
			if d.reg&7 == 5 {
				in.Imm = -in.Imm
			}
		} else if d.wide && d.reg&7 == 4 && imm() < 0 && rm == RSP && op != 0x80 {
			// AND aligns the stack: what is known of its contents stays, by where
			// the stack pointer is afterwards.
			in.Op, in.Dst, in.Src = Add, rm, rm
		}
	case op == 0x84, op == 0x85: // TEST
	case op == 0x86, op == 0x87:
		in.write(Reg(d.reg))
		d.writeRM(in)
	case op == 0x88:
		if d.mod == 3 {
			in.write(d.byteReg(d.rm))
		}
	case op == 0x89:
		if d.mod == 3 {
			in.write(rm)
			if d.wide {
				in.Op, in.Dst, in.Src = Move, rm, Reg(d.reg)
			}
			return
		}
		if d.wide && d.memory(in) {
			in.Op, in.Dst = Store, Reg(d.reg)
		} else {
			in.Src, in.Idx = NoReg, NoReg
		}
	case op == 0x8a:
		in.write(d.byteReg(d.reg))
	case op == 0x8b:
		d.load(in)
	case op == 0x8c:
		d.writeRM(in)
	case op == 0x8d:
		d.lea(in)
	case op == 0x8f:
		d.writeRM(in)
		in.write(RSP)
		in.Op, in.Dst = Pop, NoReg
		if d.mod == 3 {
			in.Dst = rm
		}
	case op > 0x90 && op <= 0x97, op == 0x90 && d.rex&1 != 0:
		in.Writes = 1<<RAX | 1<<Reg(op&7|d.rex<<3&8)
	case op == 0x98, op >= 0xa0 && op <= 0xa1, op == 0xd7, op == 0x9f:
		in.write(RAX)
	case op == 0x99:
		in.write(2)
	case op >= 0xb0 && op <= 0xb7:
		in.write(d.byteReg(op&7 | d.rex<<3&8))
	case op >= 0xb8 && op <= 0xbf:
		v := imm()
		if n == 4 {
			v = int64(uint32(v))
		}
		d.constant(in, Reg(op&7|d.rex<<3&8), v)
		if n == 2 {
			in.Op = Other
		}
	case op == 0xc0, op == 0xd0, op == 0xd2:
		if d.mod == 3 {
			in.write(d.byteReg(d.rm))
		}
	case op == 0xc1, op == 0xd1, op == 0xd3:
		d.writeRM(in)
	case op == 0xc7 && d.mod == 3 && d.reg&7 == 0:
		v := imm()
		if !d.wide {
			v = int64(uint32(v))
		}
		d.constant(in, rm, v)
		if n == 2 {
			in.Op = Other
		}
	case op == 0xc6 && d.mod == 3:
		in.write(d.byteReg(d.rm))
	case op == 0xc2, op == 0xc3, op == 0xca, op == 0xcb, op == 0xcf:
		in.Kind = Return
	case op == 0xc8, op == 0xc9:
		in.Writes = 1<<RSP | 1<<RBP
	case op == 0xcc, op == 0xf1, op == 0xf4:
		in.Kind = Stop
	case op == 0xe4, op == 0xe5, op == 0xec, op == 0xed:
		in.write(RAX)
	case op == 0xe8:
		in.Kind, in.Target = Call, uint64(int64(in.End())+imm())
	case op == 0xe9, op == 0xeb:
		in.Kind, in.Target = Jump, uint64(int64(in.End())+imm())
	case op == 0xf6 || op == 0xf7:
		switch d.reg & 7 {
		case 2, 3:
			if d.mod == 3 {
				in.write(rm)
			}
		case 4, 5, 6, 7:
			in.Writes = 1<<RAX | 1<<2
		}
	case op == 0xfe:
		if d.mod == 3 {
			in.write(d.byteReg(d.rm))
		}
	case op == 0xff:
		d.group5(in)
	case op >= 0xd8 && op <= 0xdf:
		if op == 0xdf && d.mod == 3 && d.reg&7 == 4 { // FNSTSW AX
			in.write(RAX)
		}
	}
}

// arithmetic is ADD, OR, ADC, SBB, AND, SUB, XOR and CMP.
func (d *x86) arithmetic(in *Inst, op byte) {
	cmp := op>>3 == 7
	reg, rm := Reg(d.reg), Reg(d.rm)
	switch op & 7 {
	case 0, 2:
		if cmp {
			return
		}
		if op&7 == 2 {
			in.write(d.byteReg(d.reg))
		} else if d.mod == 3 {
			in.write(d.byteReg(d.rm))
		}
	case 1:
		if cmp || d.mod != 3 {
			return
		}
		in.write(rm)
		switch {
		case reg == rm && (op == 0x31 || op == 0x29):
			d.constant(in, rm, 0)
		case op == 0x01 && d.wide:
			in.Op, in.Dst, in.Src, in.Idx = Index, rm, rm, reg
		}
	case 3:
		if cmp {
			return
		}
		in.write(reg)
		switch {
		case d.mod == 3 && reg == rm && (op == 0x33 || op == 0x2b):
			d.constant(in, reg, 0)
		case op == 0x03 && d.wide && d.mod == 3:
			in.Op, in.Dst, in.Src, in.Idx = Index, reg, reg, rm
		case op == 0x03 && d.wide:
			in.Op, in.Dst, in.Src = Index, reg, reg
		}
	case 4, 5:
		if !cmp {
			in.write(RAX)
		}
	}
}

func (d *x86) lea(in *Inst) {
	in.Dst = Reg(d.reg)
	in.write(in.Dst)
	if d.mod == 3 {
		*in = bad(in.Addr, 1)
		return
	}
	if !d.wide || d.short {
		if d.pcRel && !d.short {
			in.Op, in.Imm = Const, int64(uint32(in.Ref))
		}
		return
	}
	switch {
	case d.pcRel:
		in.Op, in.Imm = Const, int64(in.Ref)
	case d.idx != NoReg:
		in.Op, in.Src, in.Idx = Index, d.base, d.idx
	case d.base != NoReg:
		in.Op, in.Src, in.Imm = Add, d.base, d.disp
	default:
		in.Op, in.Imm = Const, d.disp
	}
}

// group5 is opcode FF: INC, DEC, CALL, CALL far, JMP, JMP far, PUSH.
func (d *x86) group5(in *Inst) {
	switch d.reg & 7 {
	case 0, 1:
		d.writeRM(in)
	case 2, 3, 4, 5:
		in.Kind, in.Indirect = Call, true
		if d.reg&7 >= 4 {
			in.Kind = Jump
		}
		if d.mod == 3 {
			in.Src = Reg(d.rm)
			return
		}
		in.Mem = true
		d.memory(in)
	case 6:
		in.Op, in.Dst = Push, NoReg
		in.write(RSP)
	case 7:
		*in = bad(in.Addr, 1)
	}
}

// meaning0F tells what the opcodes after 0F do.
func (d *x86) meaning0F(in *Inst, op byte, immAt int) {
	reg, rm := Reg(d.reg), Reg(d.rm)
	switch {
	case op == 0x05:
		in.Writes = 1<<RAX | 1<<1 | 1<<11
	case op == 0x0b, op == 0xb9, op == 0xff:
		in.Kind = Stop
	case op == 0x00, op == 0x01, op == 0x02, op == 0x03:
		d.writeRM(in)
		if op != 0 {
			in.Writes |= 1<<RAX | 1<<1 | 1<<2 | 1<<(reg&31)
		}
	case op == 0x1e && d.mod == 3:
		// A hint, ENDBR64 among them, apart from RDSSP.
		if d.code[0] == 0xf3 && d.reg&7 == 1 {
			in.write(rm)
		}
	case op == 0x20, op == 0x21:
		in.write(rm)
	case op == 0x2c, op == 0x2d, op == 0x50, op == 0xc5, op == 0xd7, op == 0x78:
		in.write(reg)
		if op == 0x78 {
			d.writeRM(in)
		}
	case op >= 0x30 && op <= 0x37:
		in.Writes = 1<<RAX | 1<<1 | 1<<2
	case op >= 0x40 && op <= 0x4f:
		in.write(reg)
		if d.mod == 3 && d.wide {
			in.Op, in.Dst, in.Src, in.Idx = Select, reg, rm, reg
		}
	case op == 0x7e:
		d.writeRM(in)
	case op >= 0x80 && op <= 0x8f:
		in.Kind, in.Target = Branch, uint64(int64(in.End())+s32(d.code[immAt:]))
	case op >= 0x90 && op <= 0x9f:
		if d.mod == 3 {
			in.write(d.byteReg(d.rm))
		}
	case op == 0xa0, op == 0xa8:
		in.Op, in.Dst = Push, NoReg
		in.write(RSP)
	case op == 0xa1, op == 0xa9:
		in.Op, in.Dst = Pop, NoReg
		in.write(RSP)
	case op == 0xa2:
		in.Writes = 1<<RAX | 1<<1 | 1<<2 | 1<<3
	case op == 0xa3: // BT
	case op == 0xa4, op == 0xa5, op == 0xab, op == 0xac, op == 0xad, op == 0xb3, op == 0xbb, op == 0xba:
		d.writeRM(in)
	case op == 0xae, op == 0xc7:
		d.writeRM(in)
		if op == 0xc7 {
			in.Writes |= 1<<RAX | 1<<2
		}
	case op == 0xaf, op == 0xb2, op == 0xb4, op == 0xb5, op == 0xb6, op == 0xb7, op == 0xb8, op == 0xbc, op == 0xbd, op == 0xbe, op == 0xbf:
		in.write(reg)
	case op == 0xb0, op == 0xb1:
		in.write(RAX)
		d.writeRM(in)
	case op == 0xc0, op == 0xc1:
		in.write(reg)
		d.writeRM(in)
	case op >= 0xc8 && op <= 0xcf:
		in.write(Reg(op&7 | d.rex<<3&8))
	}
}

// meaningVEX marks what the instructions of VEX, EVEX and XOP, and those of the
// three-byte opcodes, may write of general registers.
func (d *x86) meaningVEX(in *Inst, op byte) {
	switch d.vexMap {
	case 1:
		switch op {
		case 0x50, 0xc5, 0xd7, 0x2c, 0x2d, 0x92, 0x93, 0x78, 0x79:
			in.write(Reg(d.reg))
		case 0x7e:
			d.writeRM(in)
		}
	case 2, 5:
		if op >= 0xf0 || op == 0x2c || op == 0x2d || op == 0x78 || op == 0x79 || op == 0x7e || op >= 0x80 && op <= 0x82 {
			in.write(Reg(d.reg))
			d.writeRM(in)
			if d.vvvv != NoReg {
				in.write(d.vvvv)
			}
		}
	case 3:
		if op >= 0x14 && op <= 0x17 || op == 0xf0 || op >= 0x60 && op <= 0x63 {
			in.write(Reg(d.reg))
			d.writeRM(in)
			in.write(1)
		}
	case 8, 9, 10:
		in.write(Reg(d.reg))
		d.writeRM(in)
		if d.vvvv != NoReg {
			in.write(d.vvvv)
		}
	}
}

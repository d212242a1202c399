package disasm

import "encoding/binary"

// What follows the opcode, as the Intel manual's opcode maps (volume 2, appendix
// A, 64-bit mode) say.
const (
	aModRM = 1 << iota
	aImm8
	aImm16
	aImmZ   // 4 bytes, 2 with an operand-size prefix
	aRel    // 4 bytes, whatever the prefixes
	aRel8   //
	aBad    // not an instruction in 64-bit mode
	aPrefix // no opcode
)

var oneByte, twoByte [256]uint16

func init() {
	set := func(t *[256]uint16, attr uint16, from, to int) {
		for i := from; i <= to; i++ {
			t[i] = attr
		}
	}
	for op := 0; op < 0x40; op += 8 {
		set(&oneByte, aModRM, op, op+3)
		oneByte[op+4], oneByte[op+5] = aImm8, aImmZ
		oneByte[op+6], oneByte[op+7] = aBad, aBad
	}
	for _, p := range []int{0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3} {
		oneByte[p] = aPrefix
	}
	set(&oneByte, aPrefix, 0x40, 0x4f)
	set(&oneByte, aBad, 0x60, 0x61)
	oneByte[0x62] = aPrefix // EVEX
	oneByte[0x63], oneByte[0x68], oneByte[0x69], oneByte[0x6a], oneByte[0x6b] = aModRM, aImmZ, aModRM|aImmZ, aImm8, aModRM|aImm8
	set(&oneByte, aRel8, 0x70, 0x7f)
	oneByte[0x80], oneByte[0x81], oneByte[0x82], oneByte[0x83] = aModRM|aImm8, aModRM|aImmZ, aBad, aModRM|aImm8
	set(&oneByte, aModRM, 0x84, 0x8f)
	oneByte[0x9a] = aBad
	oneByte[0xa8], oneByte[0xa9] = aImm8, aImmZ
	set(&oneByte, aImm8, 0xb0, 0xb7)
	oneByte[0xc0], oneByte[0xc1], oneByte[0xc2] = aModRM|aImm8, aModRM|aImm8, aImm16
	oneByte[0xc4], oneByte[0xc5] = aPrefix, aPrefix // VEX
	oneByte[0xc6], oneByte[0xc7], oneByte[0xc8], oneByte[0xca] = aModRM|aImm8, aModRM|aImmZ, aImm16|aImm8, aImm16
	oneByte[0xcd], oneByte[0xce] = aImm8, aBad
	set(&oneByte, aModRM, 0xd0, 0xd3)
	set(&oneByte, aBad, 0xd4, 0xd6)
	set(&oneByte, aModRM, 0xd8, 0xdf)
	set(&oneByte, aRel8, 0xe0, 0xe3)
	set(&oneByte, aImm8, 0xe4, 0xe7)
	oneByte[0xe8], oneByte[0xe9], oneByte[0xea], oneByte[0xeb] = aRel, aRel, aBad, aRel8
	oneByte[0xf6], oneByte[0xf7], oneByte[0xfe], oneByte[0xff] = aModRM, aModRM, aModRM, aModRM

	set(&twoByte, aModRM, 0x00, 0xff)
	for _, op := range []int{0x04, 0x0a, 0x0c, 0x24, 0x25, 0x26, 0x27, 0x36, 0x39, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x7a, 0x7b, 0xa6, 0xa7} {
		twoByte[op] = aBad
	}
	for _, op := range []int{0x05, 0x06, 0x07, 0x08, 0x09, 0x0b, 0x0e, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37, 0x77, 0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xaa} {
		twoByte[op] = 0
	}
	for _, op := range []int{0x0f, 0x70, 0x71, 0x72, 0x73, 0xa4, 0xac, 0xba, 0xc2, 0xc4, 0xc5, 0xc6} {
		twoByte[op] = aModRM | aImm8
	}
	set(&twoByte, aRel, 0x80, 0x8f)
	set(&twoByte, 0, 0xc8, 0xcf)
}

// x86 is the state of decoding one instruction.
type x86 struct {
	code                     []byte
	pos                      int
	rex                      byte
	wide, op16, repne, short bool // REX.W; prefixes 66, F2, 67
	segment                  bool
	vex                      bool
	vexMap                   int
	vvvv                     Reg

	mod, reg, rm byte // reg and rm with the bits of REX
	base, idx    Reg
	disp         int64
	pcRel        bool
	dispAt       int
}

func decodeAMD64(code []byte, addr uint64) Inst {
	d := x86{code: code, base: NoReg, idx: NoReg, vvvv: NoReg}
	// The processor takes no instruction of more than 15 bytes.
	if len(d.code) > 15 {
		d.code = d.code[:15]
	}
	op, two, attr, ok := d.opcode()
	if !ok || attr&aBad != 0 {
		return bad(addr, 1)
	}
	if two && !d.vex && op >= 0x20 && op <= 0x23 && d.pos < len(d.code) {
		// Control and debug registers: always two registers.
		d.mod, d.rm, attr = 3, d.code[d.pos]&7|d.rex<<3&8, 0
		d.pos++
	}
	if attr&aModRM != 0 && !d.modRM() {
		return bad(addr, 1)
	}
	if attr&aModRM != 0 && !two && !d.vex && (op == 0xf6 || op == 0xf7) && d.reg&7 < 2 {
		if op == 0xf6 {
			attr |= aImm8
		} else {
			attr |= aImmZ
		}
	}
	immAt := d.pos
	n := 0
	if attr&aImm8 != 0 {
		n++
	}
	if attr&aImm16 != 0 {
		n += 2
	}
	if attr&aRel8 != 0 {
		n++
	}
	switch {
	case attr&aRel != 0:
		n += 4
	case attr&aImmZ != 0 && d.op16 && !d.wide:
		n += 2
	case attr&aImmZ != 0:
		n += 4
	}
	if !d.vex && !two {
		switch {
		case op >= 0xb8 && op <= 0xbf:
			n = 4
			if d.wide {
				n = 8
			} else if d.op16 {
				n = 2
			}
		case op >= 0xa0 && op <= 0xa3:
			n = 8
			if d.short {
				n = 4
			}
		}
	}
	if immAt+n > len(d.code) {
		return bad(addr, 1)
	}
	d.pos = immAt + n
	in := Inst{Addr: addr, Len: d.pos, Dst: NoReg, Dst2: NoReg, Src: NoReg, Idx: NoReg, Segment: d.segment}
	if d.pcRel {
		in.Ref = uint64(int64(addr) + int64(d.pos) + d.disp)
	}
	switch {
	case d.vex:
		d.meaningVEX(&in, op)
	case two:
		d.meaning0F(&in, op, immAt)
	default:
		d.meaning(&in, op, immAt, n)
	}
	return in
}

// opcode reads prefixes and opcode, and says what follows.
func (d *x86) opcode() (op byte, two bool, attr uint16, ok bool) {
	for d.pos < len(d.code) {
		b := d.code[d.pos]
		d.pos++
		switch {
		case b == 0x66:
			d.op16, d.rex = true, 0
		case b == 0x67:
			d.short, d.rex = true, 0
		case b == 0xf2:
			d.repne, d.rex = true, 0
		case b == 0xf3 || b == 0xf0 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x26:
			d.rex = 0
		case b == 0x64 || b == 0x65:
			d.segment, d.rex = true, 0
		case b&0xf0 == 0x40:
			d.rex = b
		case b == 0x0f:
			d.wide = d.rex&8 != 0
			return d.escaped()
		case b == 0xc5 || b == 0xc4 || b == 0x62:
			return d.vector(b)
		case b == 0x8f && d.pos < len(d.code) && d.code[d.pos]&0x1f >= 8:
			return d.vector(b)
		default:
			d.wide = d.rex&8 != 0
			return b, false, oneByte[b], true
		}
	}
	return 0, false, 0, false
}

func (d *x86) escaped() (op byte, two bool, attr uint16, ok bool) {
	if d.pos >= len(d.code) {
		return 0, false, 0, false
	}
	op = d.code[d.pos]
	d.pos++
	if op != 0x38 && op != 0x3a {
		return op, true, twoByte[op], true
	}
	if d.pos >= len(d.code) {
		return 0, false, 0, false
	}
	third := d.code[d.pos]
	d.pos++
	// These maps have few instructions that write a general register; they are
	// told apart by vexMap as those of VEX are.
	d.vexMap, d.vex = 2, true
	attr = aModRM
	if op == 0x3a {
		d.vexMap, attr = 3, aModRM|aImm8
	}
	return third, true, attr, true
}

// vector reads the VEX (C4, C5), EVEX (62) or XOP (8F) prefix and the opcode.
func (d *x86) vector(b byte) (op byte, two bool, attr uint16, ok bool) {
	need := map[byte]int{0xc5: 1, 0xc4: 2, 0x62: 3, 0x8f: 2}[b]
	if d.pos+need >= len(d.code) || d.rex != 0 {
		return 0, false, 0, false
	}
	p := d.code[d.pos : d.pos+need]
	d.pos += need
	d.vex = true
	d.rex = 0x40
	if p[0]&0x80 == 0 {
		d.rex |= 4
	}
	last := p[need-1]
	switch b {
	case 0xc5:
		d.vexMap = 1
	case 0xc4, 0x8f:
		d.vexMap = int(p[0] & 0x1f)
		d.wide = last&0x80 != 0
	case 0x62:
		d.vexMap = int(p[0] & 7)
		d.wide = p[1]&0x80 != 0
		last = p[1]
		if p[1]&4 == 0 { // reserved as 1
			return 0, false, 0, false
		}
	}
	if b != 0xc5 {
		if p[0]&0x40 == 0 {
			d.rex |= 2
		}
		if p[0]&0x20 == 0 {
			d.rex |= 1
		}
	}
	d.vvvv = Reg(^last >> 3 & 15)
	op = d.code[d.pos]
	d.pos++
	switch d.vexMap {
	case 1:
		attr = twoByte[op] & (aModRM | aImm8)
		if op != 0x77 {
			attr |= aModRM
		}
	case 2, 5, 6, 9:
		attr = aModRM
	case 3, 8:
		attr = aModRM | aImm8
	case 10:
		attr = aModRM | aRel // 4 bytes of immediate
	default:
		return 0, false, 0, false
	}
	return op, true, attr, true
}

func (d *x86) modRM() bool {
	if d.pos >= len(d.code) {
		return false
	}
	m := d.code[d.pos]
	d.pos++
	d.mod = m >> 6
	d.reg = m>>3&7 | d.rex<<1&8
	rm := m & 7
	d.rm = rm | d.rex<<3&8
	if d.mod == 3 {
		return true
	}
	n := 0
	switch d.mod {
	case 1:
		n = 1
	case 2:
		n = 4
	}
	if rm == 4 {
		if d.pos >= len(d.code) {
			return false
		}
		sib := d.code[d.pos]
		d.pos++
		if i := sib>>3&7 | d.rex<<2&8; i != 4 {
			d.idx = Reg(i)
		}
		if sib&7 == 5 && d.mod == 0 {
			n = 4
		} else {
			d.base = Reg(sib&7 | d.rex<<3&8)
		}
	} else if rm == 5 && d.mod == 0 {
		d.pcRel, n = true, 4
	} else {
		d.base = Reg(d.rm)
	}
	d.dispAt = d.pos
	if d.pos+n > len(d.code) {
		return false
	}
	switch n {
	case 1:
		d.disp = int64(int8(d.code[d.pos]))
	case 4:
		d.disp = s32(d.code[d.pos:])
	}
	d.pos += n
	return true
}

// memory puts the memory operand into in: Src, Idx and Imm. ok is false where it
// is relative to a segment, or an address of 32 bits.
func (d *x86) memory(in *Inst) (ok bool) {
	in.Src, in.Idx, in.Imm = d.base, d.idx, d.disp
	if d.pcRel {
		in.Imm = int64(in.Ref)
	}
	return !d.segment && !d.short
}

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

package disasm

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

// opcodes says, for each opcode of a map, what follows it.
type opcodes [256]uint16

func (t *opcodes) set(attr uint16, from, to int) {
	for i := from; i <= to; i++ {
		t[i] = attr
	}
}

// oneByte is the map of the opcodes of one byte.
var oneByte = func() (t opcodes) {
	for op := 0; op < 0x40; op += 8 {
		t.set(aModRM, op, op+3)
		t[op+4], t[op+5] = aImm8, aImmZ
		t[op+6], t[op+7] = aBad, aBad
	}
	for _, p := range []int{0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3} {
		t[p] = aPrefix
	}
	t.set(aPrefix, 0x40, 0x4f)
	t.set(aBad, 0x60, 0x61)
	t[0x62] = aPrefix // EVEX
	t[0x63], t[0x68], t[0x69], t[0x6a], t[0x6b] = aModRM, aImmZ, aModRM|aImmZ, aImm8, aModRM|aImm8
	t.set(aRel8, 0x70, 0x7f)
	t[0x80], t[0x81], t[0x82], t[0x83] = aModRM|aImm8, aModRM|aImmZ, aBad, aModRM|aImm8
	t.set(aModRM, 0x84, 0x8f)
	t[0x9a] = aBad
	t[0xa8], t[0xa9] = aImm8, aImmZ
	t.set(aImm8, 0xb0, 0xb7)
	t[0xc0], t[0xc1], t[0xc2] = aModRM|aImm8, aModRM|aImm8, aImm16
	t[0xc4], t[0xc5] = aPrefix, aPrefix // VEX
	t[0xc6], t[0xc7], t[0xc8], t[0xca] = aModRM|aImm8, aModRM|aImmZ, aImm16|aImm8, aImm16
	t[0xcd], t[0xce] = aImm8, aBad
	t.set(aModRM, 0xd0, 0xd3)
	t.set(aBad, 0xd4, 0xd6)
	t.set(aModRM, 0xd8, 0xdf)
	t.set(aRel8, 0xe0, 0xe3)
	t.set(aImm8, 0xe4, 0xe7)
	t[0xe8], t[0xe9], t[0xea], t[0xeb] = aRel, aRel, aBad, aRel8
	t[0xf6], t[0xf7], t[0xfe], t[0xff] = aModRM, aModRM, aModRM, aModRM
	return t
}()

// twoByte is the map of those behind 0F.
var twoByte = func() (t opcodes) {
	t.set(aModRM, 0x00, 0xff)
	for _, op := range []int{0x04, 0x0a, 0x0c, 0x24, 0x25, 0x26, 0x27, 0x36, 0x39, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x7a, 0x7b, 0xa6, 0xa7} {
		t[op] = aBad
	}
	for _, op := range []int{0x05, 0x06, 0x07, 0x08, 0x09, 0x0b, 0x0e, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37, 0x77, 0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xaa} {
		t[op] = 0
	}
	for _, op := range []int{0x0f, 0x70, 0x71, 0x72, 0x73, 0xa4, 0xac, 0xba, 0xc2, 0xc4, 0xc5, 0xc6} {
		t[op] = aModRM | aImm8
	}
	t.set(aRel, 0x80, 0x8f)
	t.set(0, 0xc8, 0xcf)
	return t
}()

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

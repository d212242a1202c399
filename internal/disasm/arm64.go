package disasm

import "encoding/binary"

// decodeARM64 decodes by the encoding index of the Arm Architecture Reference
// Manual (DDI 0487, chapter C4): bits 28 to 25 tell the group.
func decodeARM64(code []byte, addr uint64) Inst {
	if len(code) < 4 {
		return bad(addr, len(code))
	}
	w := binary.LittleEndian.Uint32(code)
	in := Inst{Addr: addr, Len: 4, Dst: NoReg, Dst2: NoReg, Src: NoReg, Idx: NoReg}
	rd, rn := Reg(w&31), Reg(w>>5&31)
	switch w >> 25 & 15 {
	case 0b0000, 0b0001, 0b0011:
		// Reserved; UDF is all zeroes but the lowest 16 bits.
		if w>>16 == 0 {
			in.Kind = Stop
			return in
		}
		if w>>31 == 1 { // SME
			return in
		}
		return bad(addr, 4)
	case 0b0010: // SVE; a few count into a general register
		in.writeX(rd)
	case 0b1000, 0b1001:
		immediateARM64(&in, w, rd, rn)
	case 0b1010, 0b1011:
		branchARM64(&in, w, rn)
	case 0b0100, 0b0110, 0b1100, 0b1110:
		memoryARM64(&in, w, rd, rn)
	case 0b0101, 0b1101:
		registerARM64(&in, w, rd, rn)
	case 0b0111, 0b1111:
		// FMOV, UMOV, FCVTZS and the like into a general register.
		if w>>24&0x1f == 0x1e && w>>21&1 == 1 && w>>10&0x3f == 0 || w&0xbfe0fc00 == 0x0e003c00 || w&0xbfe0fc00 == 0x0e002c00 || w&0xbfe00400 == 0x0e000400 {
			in.writeX(rd)
		}
	}
	return in
}

// writeX marks a general register; 31 is the zero register in most places.
func (in *Inst) writeX(r Reg) {
	if r != 31 {
		in.Writes |= 1 << (r & 31)
	}
}

func signed(v uint32, bits int) int64 { return int64(v) << (64 - bits) >> (64 - bits) }

func immediateARM64(in *Inst, w uint32, rd, rn Reg) {
	switch w >> 23 & 7 {
	case 0, 1: // ADR, ADRP
		in.Dst = rd
		in.writeX(rd)
		imm := signed(w>>5&0x7ffff<<2|w>>29&3, 21)
		in.Op, in.Imm = Const, int64(in.Addr)+imm
		if w>>31 == 1 {
			in.Op, in.Imm = Page, int64(in.Addr&^0xfff)+imm<<12
		}
		if rd == 31 {
			in.Op, in.Dst = Other, NoReg
		}
	case 2: // ADD, SUB; with S they set flags, and 31 is the zero register
		if w>>29&1 == 1 {
			in.writeX(rd)
			return
		}
		in.Writes |= 1 << rd
		if w>>31 == 0 {
			return
		}
		imm := int64(w >> 10 & 0xfff)
		if w>>22&1 == 1 {
			imm <<= 12
		}
		if w>>30&1 == 1 {
			imm = -imm
		}
		in.Op, in.Dst, in.Src, in.Imm = Add, rd, rn, imm
	case 3: // with tags
		in.Writes |= 1 << rd
	case 4: // AND, ORR, EOR, ANDS
		if w>>29&3 == 3 {
			in.writeX(rd)
		} else {
			in.Writes |= 1 << rd
			if w>>31 == 1 && w>>29&3 == 0 && rd == SP {
				in.Op, in.Dst, in.Src = Add, rd, rn // the stack is aligned
			}
		}
	case 5: // MOVN, MOVZ, MOVK
		in.writeX(rd)
		if rd == 31 {
			return
		}
		v := int64(w>>5&0xffff) << (w >> 21 & 3 * 16)
		switch w >> 29 & 3 {
		case 0:
			in.Op, in.Dst, in.Imm = Const, rd, ^v
			if w>>31 == 0 {
				in.Imm = int64(uint32(in.Imm))
			}
		case 2:
			in.Op, in.Dst, in.Imm = Const, rd, v
		}
	case 6, 7: // bit fields, EXTR
		in.writeX(rd)
	}
}

func branchARM64(in *Inst, w uint32, rn Reg) {
	to := func(v uint32, bits int) uint64 { return uint64(int64(in.Addr) + signed(v, bits)*4) }
	switch {
	case w>>26 == 0b000101:
		in.Kind, in.Target = Jump, to(w&0x3ffffff, 26)
	case w>>26 == 0b100101:
		in.Kind, in.Target = Call, to(w&0x3ffffff, 26)
		in.writeX(30)
	case w>>25&0x3f == 0b011010, w>>24 == 0b01010100: // CBZ, CBNZ; B.cond, BC.cond
		in.Kind, in.Target = Branch, to(w>>5&0x7ffff, 19)
	case w>>25&0x3f == 0b011011: // TBZ, TBNZ
		in.Kind, in.Target = Branch, to(w>>5&0x3fff, 14)
	case w>>25 == 0b1101011:
		// BR, BLR, RET, ERET, and those that authenticate a pointer.
		switch w >> 21 & 15 {
		case 0, 8:
			in.Kind, in.Indirect, in.Src = Jump, true, rn
		case 1, 9:
			in.Kind, in.Indirect, in.Src = Call, true, rn
			in.writeX(30)
		case 2:
			in.Kind = Return
		default:
			in.Kind = Stop
		}
	case w>>24 == 0b11010100: // exceptions: SVC, HVC, SMC, BRK, HLT
		switch {
		case w&0xffe0001f == 0xd4000001:
			in.writeX(0)
		case w>>21&7 == 1, w>>21&7 == 2:
			in.Kind = Stop
		}
	case w>>22 == 0b1101010100: // system, hints
		if w>>21&1 == 1 {
			in.writeX(Reg(w & 31)) // MRS
		}
		if w&0xfffff01f == 0xd503201f { // hints; those with pointers use x17, x30
			in.Writes = 0
		}
	default:
		in.Kind = Bad
		in.Writes = ^uint32(0)
	}
}

func memoryARM64(in *Inst, w uint32, rt, rn Reg) {
	vector := w>>26&1 == 1
	data := func(r Reg) {
		if !vector {
			in.writeX(r)
		}
	}
	switch {
	case w>>27&7 == 0b011 && w>>24&3 == 0: // LDR (literal)
		data(rt)
		in.Ref = uint64(int64(in.Addr) + signed(w>>5&0x7ffff, 19)*4)
		if w>>30 == 1 && !vector && rt != 31 {
			in.Op, in.Dst, in.Imm = Load, rt, int64(in.Ref)
		}
	case w>>27&7 == 0b101: // pairs
		load := w>>22&1 == 1
		rt2 := Reg(w >> 10 & 31)
		imm := signed(w>>15&0x7f, 7)
		mode := w >> 23 & 3
		scale := 2 + w>>31&1
		if vector {
			scale = 2 + w>>30&3
		}
		in.Src, in.Imm = rn, imm<<scale
		if mode&1 == 1 {
			in.Writes |= 1 << rn
			in.PostAdd = in.Imm
			if mode == 1 {
				in.Imm = 0
			}
		}
		wide := w>>30 == 2 && !vector
		if load {
			data(rt)
			data(rt2)
			if wide {
				in.Op, in.Dst, in.Dst2 = LoadPair, rt, rt2
			}
		} else if wide {
			in.Op, in.Dst, in.Dst2 = StorePair, rt, rt2
		}
	case w>>27&7 == 0b111: // single registers
		size, opc := w>>30, w>>22&3
		load := opc != 0 && !(size == 3 && opc == 2) // that is PRFM
		if vector {
			load = opc&1 == 1
		}
		wide := size == 3 && !vector && opc < 2
		switch {
		case w>>24&1 == 1: // unsigned offset
			in.Src, in.Imm = rn, int64(w>>10&0xfff)<<size
		case w>>21&1 == 0: // 9-bit offsets
			in.Src, in.Imm = rn, signed(w>>12&0x1ff, 9)
			if mode := w >> 10 & 3; mode&1 == 1 {
				in.Writes |= 1 << rn
				in.PostAdd = in.Imm
				if mode == 1 {
					in.Imm = 0
				}
			}
		default: // register offset, atomics, pointer authentication
			if w>>10&3 == 0 { // atomics read into rt
				data(rt)
				return
			}
			if w>>10&3 == 2 {
				in.Src, in.Idx = rn, Reg(w>>16&31)
			} else if w>>11&1 == 1 {
				in.Writes |= 1 << rn
			}
			wide = false
		}
		switch {
		case load:
			data(rt)
			if wide && rt != 31 {
				in.Op, in.Dst = Load, rt
			}
		case wide:
			in.Op, in.Dst = Store, rt
		}
	default:
		// Exclusives, ordered ones, CAS, tags, structures of vectors: what they
		// may write is rt, the status register, and the base.
		data(rt)
		if !vector {
			in.writeX(Reg(w >> 16 & 31))
			in.writeX(Reg(w >> 10 & 31))
		} else {
			in.Writes |= 1 << rn
		}
	}
}

func registerARM64(in *Inst, w uint32, rd, rn Reg) {
	rm := Reg(w >> 16 & 31)
	in.writeX(rd)
	switch {
	case w&0x7fe0ffe0 == 0x2a0003e0: // ORR with the zero register: MOV
		if rd == 31 {
			return
		}
		switch {
		case rm == 31:
			in.Op, in.Dst = Const, rd
		case w>>31 == 1:
			in.Op, in.Dst, in.Src = Move, rd, rm
		}
	case w>>21 == 0b10001011000 && rd != 31: // ADD (shifted register)
		in.Op, in.Dst, in.Src, in.Idx = Index, rd, rn, rm
	case w>>21 == 0b10001011001: // ADD (extended register)
		in.Writes |= 1 << rd
		in.Op, in.Dst, in.Src, in.Idx = Index, rd, rn, rm
	case w>>21 == 0b10011010100 && w>>10&3 == 0 && rd != 31: // CSEL
		in.Op, in.Dst, in.Src, in.Idx = Select, rd, rn, rm
	case w>>21&0x3ff == 0b1111010010: // CCMP, CCMN: flags alone
		in.Writes = 0
	}
}

package ptrace

import "encoding/binary"

// armRegs are the general registers of arm64.
type armRegs struct {
	x      *[31]uint64
	sp, pc *uint64
}

// emulateArm64 is emulate for arm64. paciasp is not among its instructions: only
// the processor has the keys.
func emulateArm64(code []byte, r armRegs, write func(addr uint64, b []byte) error) bool {
	in := binary.LittleEndian.Uint32(code)
	switch {
	case in&^0xc0 == 0xd503241f, in == 0xd503201f: // bti, nop
	case in&0xffc003ff == 0xd10003ff: // sub sp, sp, #imm12
		*r.sp -= uint64(in >> 10 & 0xfff)
	case in&0xffc003e0 == 0xa98003e0: // stp x, y, [sp, #imm7*8]!
		sp := *r.sp + uint64(int64(int32(in<<10)>>25)*8)
		var b [16]byte
		binary.LittleEndian.PutUint64(b[:], r.general(in&31))
		binary.LittleEndian.PutUint64(b[8:], r.general(in>>10&31))
		if write(sp, b[:]) != nil {
			return false
		}
		*r.sp = sp
	case in&0xffe0ffe0 == 0xaa0003e0: // mov x, y
		if in&31 != 31 {
			r.x[in&31] = r.general(in >> 16 & 31)
		}
	default:
		return false
	}
	*r.pc += 4
	return true
}

// general returns a general register; the last one is zero.
func (r armRegs) general(n uint32) uint64 {
	if n == 31 {
		return 0
	}
	return r.x[n]
}

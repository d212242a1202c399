package disasm

import (
	"encoding/binary"
	"slices"
)

// Overlap is how many bytes of code a sweep in pieces must repeat, so that no
// instruction is cut at a border.
const Overlap = 16

// A Sweep searches code for the few places that go to, or read from, given
// addresses, without decoding what is in between. On x86-64 it looks at every
// byte, so that a place which it finds may be none: whoever needs certainty
// decodes the function around it. It misses none of these forms:
//
//   - a direct call, jump or conditional jump to the address
//   - a call or jump through the memory at the address, and MOV or LEA of it,
//     relative to the program counter
//   - on AArch64 an ADRP with the LDR or ADD that completes it, if they are in
//     the same piece of code and no other ADRP for that register is between them
type Sweep struct {
	arch   Arch
	wanted []uint64 // sorted
	lo, n  uint64
	// bits has a bit for each address from lo on, modulo its size, so that most
	// others are told apart without a search.
	bits [64]uint64
}

// NewSweep prepares a search for the addresses wanted.
func NewSweep(arch Arch, wanted []uint64) *Sweep {
	s := &Sweep{arch: arch, wanted: slices.Compact(slices.Sorted(slices.Values(wanted)))}
	if len(s.wanted) > 0 {
		s.lo = s.wanted[0]
		s.n = s.wanted[len(s.wanted)-1] - s.lo
	}
	for _, w := range s.wanted {
		s.bits[w>>6&63] |= 1 << (w & 63)
	}
	return s
}

func (s *Sweep) has(addr uint64) bool {
	if addr-s.lo > s.n || s.bits[addr>>6&63]&(1<<(addr&63)) == 0 {
		return false
	}
	_, ok := slices.BinarySearch(s.wanted, addr)
	return ok
}

// Run calls found with every place in code, which lies at addr, and with the
// address that it names.
func (s *Sweep) Run(code []byte, addr uint64, found func(at, target uint64)) {
	switch {
	case len(s.wanted) == 0:
	case s.arch == ARM64:
		s.arm64(code, addr, found)
	default:
		s.amd64(code, addr, found)
	}
}

// first tells which bytes may begin one of the forms: 1 a 4-byte displacement
// follows, 2 ModRM and a displacement, 3 a second byte of opcode.
var first = func() (t [256]uint8) {
	t[0xe8], t[0xe9] = 1, 1
	t[0xff], t[0x8b], t[0x8d] = 2, 2, 2
	t[0x0f] = 3
	return t
}()

func (s *Sweep) amd64(code []byte, addr uint64, found func(at, target uint64)) {
	if len(code) < 6 {
		code = append(slices.Clone(code), make([]byte, 6)...)
	}
	for i := 0; i+5 <= len(code); i++ {
		kind := first[code[i]]
		if kind == 0 {
			continue
		}
		n := 5
		if kind != 1 {
			if i+6 > len(code) || kind == 2 && code[i+1]&0xc7 != 5 || kind == 3 && code[i+1]&0xf0 != 0x80 {
				continue
			}
			n = 6
		}
		target := addr + uint64(i+n) + uint64(int64(int32(binary.LittleEndian.Uint32(code[i+n-4:]))))
		if target-s.lo <= s.n && s.has(target) {
			found(addr+uint64(i), target)
		}
	}
}

func (s *Sweep) arm64(code []byte, addr uint64, found func(at, target uint64)) {
	var page [32]uint64
	for i := 0; i+4 <= len(code); i += 4 {
		w := binary.LittleEndian.Uint32(code[i:])
		at := addr + uint64(i)
		var target uint64
		switch {
		case w>>26&0x1f == 0b00101: // B, BL
			target = at + uint64(signed(w&0x3ffffff, 26)*4)
		case w>>24 == 0b01010100, w>>25&0x3f == 0b011010: // B.cond, CBZ, CBNZ
			target = at + uint64(signed(w>>5&0x7ffff, 19)*4)
		case w>>25&0x3f == 0b011011: // TBZ, TBNZ
			target = at + uint64(signed(w>>5&0x3fff, 14)*4)
		case w>>24&0x9f == 0x90: // ADRP
			page[w&31] = at&^0xfff + uint64(signed(w>>5&0x7ffff<<2|w>>29&3, 21)<<12)
			continue
		case w>>22 == 0b1111100101: // LDR, 8 bytes, unsigned offset
			if target = page[w>>5&31]; target == 0 {
				continue
			}
			target += uint64(w>>10&0xfff) << 3
		case w>>22 == 0b1001000100: // ADD, 8 bytes, immediate
			if target = page[w>>5&31]; target == 0 {
				continue
			}
			target += uint64(w >> 10 & 0xfff)
		default:
			continue
		}
		if s.has(target) {
			found(at, target)
		}
	}
}

package unwind

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"forkproof/internal/cfi"
)

// pieces is memory of some short pieces, with zeros up to the end of their page.
type pieces map[uint64][]byte

func (m pieces) ReadAt(p []byte, addr uint64) (int, error) {
	clear(p)
	found := false
	for at, b := range m {
		if at&^0xfff < addr+uint64(len(p)) && at&^0xfff+0x1000 > addr {
			found = true
		}
		for i, v := range b {
			if off := at + uint64(i) - addr; off < uint64(len(p)) {
				p[off] = v
			}
		}
	}
	if !found {
		return 0, errors.New("nothing is mapped there")
	}
	return len(p), nil
}

func TestCalled(t *testing.T) {
	word := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	insns := func(v ...uint32) []byte {
		var b []byte
		for _, i := range v {
			b = binary.LittleEndian.AppendUint32(b, i)
		}
		return b
	}
	for name, tc := range map[string]struct {
		arch cfi.Arch
		mem  pieces
		ra   uint64
		want []uint64
	}{
		"a direct call": {cfi.AMD64, pieces{0x401000: {0xe8, 0xfb, 0x0f, 0, 0}}, 0x401005, []uint64{0x402000}},
		"through a stub with ENDBR64 and BND": {cfi.AMD64, pieces{0x401000: {0xe8, 0xfb, 0x0f, 0, 0},
			0x402000: {0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0xf5, 0x0f, 0, 0}, 0x403000: word(0x7f0000001000)}, 0x401005, []uint64{0x402000, 0x7f0000001000}},
		"through the table of addresses": {cfi.AMD64, pieces{0x401000: {0xff, 0x15, 0xfa, 0x1f, 0, 0}, 0x403000: word(0x7f0000001000)}, 0x401006, []uint64{0x7f0000001000}},
		"to a function that is a jump":   {cfi.AMD64, pieces{0x401000: {0xe8, 0xfb, 0x0f, 0, 0}, 0x402000: {0xe9, 0xfb, 0x0f, 0, 0}}, 0x401005, []uint64{0x402000, 0x403000}},
		"a jump to itself":               {cfi.AMD64, pieces{0x401000: {0xe8, 0xfb, 0x0f, 0, 0}, 0x402000: {0xeb, 0xfe}}, 0x401005, []uint64{0x402000, 0x402000, 0x402000, 0x402000}},
		"through a register":             {cfi.AMD64, pieces{0x401000: {0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0}}, 0x401008, nil},
		"no call":                        {cfi.AMD64, pieces{0x401000: make([]byte, 16)}, 0x401008, nil},
		"nothing mapped":                 {cfi.AMD64, pieces{}, 0x401008, nil},
		"arm64, through a stub": {cfi.ARM64, pieces{0x401000: insns(0x94000400), // bl 0x402000
			0x402000: insns(0xb0000010, 0xf9400211, 0x91000210, 0xd61f0220), // adrp x16, 0x403000; ldr x17, [x16]; add; br x17
			0x403000: word(0x7f0000001000)}, 0x401004, []uint64{0x402000, 0x7f0000001000}},
		"arm64, through a register": {cfi.ARM64, pieces{0x401000: insns(0xd63f0020)}, 0x401004, nil},
	} {
		if got := Called(tc.mem, tc.arch, tc.ra); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %#x, want %#x", name, got, tc.want)
		}
	}
}

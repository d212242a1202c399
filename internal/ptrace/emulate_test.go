package ptrace

import (
	"encoding/binary"
	"testing"
)

func TestEmulateArm64(t *testing.T) {
	type state struct {
		x      [31]uint64
		sp, pc uint64
	}
	start := state{sp: 0x8000, pc: 0x1000}
	for i := range start.x {
		start.x[i] = uint64(i) + 100
	}
	for _, tc := range []struct {
		name string
		code uint32
		want func(s *state)
		at   map[uint64]uint64
	}{
		{"bti c", 0xd503245f, func(*state) {}, nil},
		{"bti jc", 0xd50324df, func(*state) {}, nil},
		{"nop", 0xd503201f, func(*state) {}, nil},
		{"stp x29, x30, [sp, #-32]!", 0xa9be7bfd, func(s *state) { s.sp -= 32 }, map[uint64]uint64{0x7fe0: 129, 0x7fe8: 130}},
		{"stp x19, xzr, [sp, #-16]!", 0xa9bf7ff3, func(s *state) { s.sp -= 16 }, map[uint64]uint64{0x7ff0: 119, 0x7ff8: 0}},
		{"sub sp, sp, #0x20", 0xd10083ff, func(s *state) { s.sp -= 32 }, nil},
		{"mov x20, x1", 0xaa0103f4, func(s *state) { s.x[20] = 101 }, nil},
		{"mov x0, xzr", 0xaa1f03e0, func(s *state) { s.x[0] = 0 }, nil},
		{"paciasp", 0xd503233f, nil, nil},
		{"sub sp, sp, #1, lsl #12", 0xd14007ff, nil, nil},
		{"subs xzr, sp, #0x20", 0xf10083ff, nil, nil},
		{"stp x29, x30, [sp, #32]", 0xa9027bfd, nil, nil},
		{"ldp x29, x30, [sp], #32", 0xa8c27bfd, nil, nil},
		{"bl", 0x94000000, nil, nil},
		{"mrs x0, tpidr_el0", 0xd53bd040, nil, nil},
	} {
		s, want := start, start
		if tc.want != nil {
			tc.want(&want)
			want.pc += 4
		}
		written := map[uint64]uint64{}
		did := emulateArm64(binary.LittleEndian.AppendUint32(nil, tc.code), armRegs{&s.x, &s.sp, &s.pc}, func(addr uint64, b []byte) error {
			written[addr] = binary.LittleEndian.Uint64(b)
			written[addr+8] = binary.LittleEndian.Uint64(b[8:])
			return nil
		})
		if did != (tc.want != nil) || s != want || len(written) != len(tc.at) {
			t.Errorf("%s: %v, wrote %v, got %+v, want %+v", tc.name, did, written, s, want)
		}
		for addr, v := range tc.at {
			if written[addr] != v {
				t.Errorf("%s wrote %v", tc.name, written)
			}
		}
	}
}

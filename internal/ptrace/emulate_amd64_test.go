package ptrace

import (
	"encoding/binary"
	"errors"
	"testing"
)

func TestEmulate(t *testing.T) {
	start := Regs{Rip: 0x1000, Rsp: 0x8000, Rbp: 0x1111, Rbx: 0x2222, Rdi: 0x3333, R12: 0x4444, Rax: 0x10, Rcx: 0x20}
	for _, tc := range []struct {
		name string
		code []byte
		want func(r *Regs)     // nil: it is left to the processor
		at   map[uint64]uint64 // what is written
	}{
		{"endbr64", []byte{0xf3, 0x0f, 0x1e, 0xfa}, func(r *Regs) { r.Rip += 4 }, nil},
		{"push rbp", []byte{0x55}, func(r *Regs) { r.Rip++; r.Rsp -= 8 }, map[uint64]uint64{0x7ff8: 0x1111}},
		{"push r12", []byte{0x41, 0x54}, func(r *Regs) { r.Rip += 2; r.Rsp -= 8 }, map[uint64]uint64{0x7ff8: 0x4444}},
		{"push rsp", []byte{0x54}, func(r *Regs) { r.Rip++; r.Rsp -= 8 }, map[uint64]uint64{0x7ff8: 0x8000}},
		{"mov rbp,rsp", []byte{0x48, 0x89, 0xe5}, func(r *Regs) { r.Rip += 3; r.Rbp = 0x8000 }, nil},
		{"mov r12,rdi", []byte{0x49, 0x89, 0xfc}, func(r *Regs) { r.Rip += 3; r.R12 = 0x3333 }, nil},
		{"lea rax,[rip+0x10]", []byte{0x48, 0x8d, 0x05, 0x10, 0, 0, 0}, func(r *Regs) { r.Rip += 7; r.Rax = 0x1017 }, nil},
		{"lea rax,[rip-0x10]", []byte{0x48, 0x8d, 0x05, 0xf0, 0xff, 0xff, 0xff}, func(r *Regs) { r.Rip += 7; r.Rax = 0xff7 }, nil},
		{"lea rax,[rcx-0x200]", []byte{0x48, 0x8d, 0x81, 0x00, 0xfe, 0xff, 0xff}, func(r *Regs) { r.Rip += 7; r.Rax = ^uint64(0x1df) }, nil},
		{"lea rax,[rax+rcx*4-8]", []byte{0x48, 0x8d, 0x44, 0x88, 0xf8}, func(r *Regs) { r.Rip += 5; r.Rax = 0x10 + 0x80 - 8 }, nil},
		{"mov eax,edi", []byte{0x89, 0xf8}, nil, nil},
		{"mov rax,[rdi]", []byte{0x48, 0x8b, 0x07}, nil, nil},
		{"mov rax,fs:[0x28]", []byte{0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0}, nil, nil},
		{"push imm", []byte{0x6a, 0x01}, nil, nil},
		{"push [rip]", []byte{0xff, 0x35, 0, 0, 0, 0}, nil, nil},
		{"sub rsp,8", []byte{0x48, 0x83, 0xec, 0x08}, nil, nil},
		{"xor eax,eax", []byte{0x31, 0xc0}, nil, nil},
		{"call", []byte{0xe8, 0, 0, 0, 0}, nil, nil},
		{"syscall", []byte{0x0f, 0x05}, nil, nil},
		{"lock add", []byte{0xf0, 0x48, 0x01, 0x07}, nil, nil},
		{"nothing", []byte{0x06}, nil, nil},
	} {
		r := start
		written := map[uint64]uint64{}
		did := emulate(append(tc.code, make([]byte, 16-len(tc.code))...), &r, func(addr uint64, b []byte) error {
			written[addr] = binary.LittleEndian.Uint64(b)
			return nil
		})
		want := start
		if tc.want != nil {
			tc.want(&want)
		}
		if did != (tc.want != nil) || r != want || len(written) != len(tc.at) {
			t.Errorf("%s: %v, wrote %v, registers %+v, want %+v", tc.name, did, written, r, want)
		}
		for addr, v := range tc.at {
			if written[addr] != v {
				t.Errorf("%s wrote %x", tc.name, written)
			}
		}
	}
	r := start
	if emulate(make16(0x55), &r, func(uint64, []byte) error { return errors.New("no page") }) || r != start {
		t.Errorf("a push that cannot be written was made: %+v", r)
	}
}

func make16(b ...byte) []byte { return append(b, make([]byte, 16-len(b))...) }

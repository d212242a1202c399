package unwind

import (
	"bytes"
	"encoding/binary"
	"slices"

	"forkproof/internal/cfi"
)

// maxPrologue is how many bytes of a function are looked at for the instruction
// that reserves its frame.
const maxPrologue = 192

// expected is where the return address would be if the frame had just the size
// that the function's prologue gives it: if it called no alloca and has no
// arguments of a call on the stack. The most likely place comes first.
func (w *walker) expected(regs *Regs, p *place, entry uint64) []uint64 {
	row := p.row
	if row == nil || row.CFA.Kind != cfi.Register || int(row.CFA.Reg) != w.arch.fp {
		return nil
	}
	ra := row.Regs[p.fde.RA]
	if ra.Kind != cfi.Offset {
		return nil
	}
	sp := regs.SP()
	if w.arch.leaf {
		// The frame record of arm64 lies at the bottom of the frame, where the
		// frame pointer points.
		return []uint64{sp + uint64(row.CFA.Off+ra.Off)}
	}
	if entry == 0 {
		return nil
	}
	// What is pushed, and what is reserved below that.
	lowest := int64(-16)
	for i := range row.Regs {
		if r := &row.Regs[i]; r.Kind == cfi.Offset {
			lowest = min(lowest, r.Off)
		}
	}
	n := min(p.pc-entry, maxPrologue)
	code := make([]byte, n)
	if w.mem.read(code, entry) != nil {
		return nil
	}
	sizes := reserved(code)
	if len(sizes) == 0 {
		sizes = []uint64{0}
	}
	var slots []uint64
	for _, size := range sizes {
		for _, pushed := range []int64{-lowest, 16} {
			slot := sp + size + uint64(pushed) + uint64(ra.Off)
			if !slices.Contains(slots, slot) {
				slots = append(slots, slot)
			}
		}
	}
	return slots
}

// reserved lists what prologue code subtracts from the stack pointer (SUB $n,
// %rsp) once the frame pointer is set (MOV %rsp,%rbp), the first two of it. The
// bytes may mean something else; a wrong size only leads to a place in the stack
// where no return address is.
func reserved(code []byte) []uint64 {
	i := bytes.Index(code, []byte{0x48, 0x89, 0xe5})
	if i < 0 {
		return nil
	}
	var sizes []uint64
	for i += 3; i+4 <= len(code) && len(sizes) < 2; i++ {
		if code[i] != 0x48 || code[i+2] != 0xec {
			continue
		}
		switch {
		case code[i+1] == 0x83:
			sizes = append(sizes, uint64(int64(int8(code[i+3]))))
		case code[i+1] == 0x81 && i+7 <= len(code):
			sizes = append(sizes, uint64(binary.LittleEndian.Uint32(code[i+3:])))
		}
	}
	return sizes
}

package unwind

import (
	"encoding/binary"
	"fmt"

	"forkproof/internal/cfi"
)

// leafCaller finds the caller of a function that keeps its return address in a
// register only, as system call stubs on arm64 do: the link register is not
// among what the kernel tells. The caller must have saved its own return
// address. So a word is looked for behind a direct call to some function F whose
// tables say that, with the stack pointer as it is, F keeps its return address at
// that very word. F is the caller, and within F the call that leads here tells
// the program counter.
func (w *walker) leafCaller(regs *Regs, p *place, entry uint64) (candidate, error) {
	cfa, err := machine{w, regs}.cfa(p.row)
	if err != nil {
		return candidate{}, fmt.Errorf("%w: %w", err, ErrLost)
	}
	for at := (cfa + 7) &^ 7; at < cfa+nearWindow; at += 8 {
		raw, err := w.mem.load(at, 8)
		if err != nil {
			break
		}
		ra := regs.strip(raw)
		if ra < pageSize {
			continue
		}
		if _, ok := w.space.Find(ra - 1); !ok {
			continue
		}
		call := w.arch.call(&w.mem, ra)
		if !call.ok || call.target == 0 {
			continue
		}
		if c, ok := w.inCaller(regs, call.target, cfa, at, entry); ok {
			return c, nil
		}
	}
	return candidate{}, fmt.Errorf("no caller above %#x for the leaf %#x: %w", regs.SP(), p.pc, ErrLost)
}

// inCaller checks that the function which a call to target leads to keeps its
// return address at slot when its stack pointer is sp, and finds the call in it
// that leads to entry.
func (w *walker) inCaller(regs *Regs, target, sp, slot, entry uint64) (candidate, bool) {
	for range 4 {
		next, ok := w.arch.hop(&w.mem, target)
		if !ok {
			break
		}
		target = next
	}
	f := w.locate(target, true)
	if f.fde == nil || f.start != target {
		return candidate{}, false
	}
	var pcs []uint64
	for row, err := range f.fde.Rows() {
		if err != nil {
			return candidate{}, false
		}
		ra := row.Regs[f.fde.RA]
		base := int(row.CFA.Reg)
		if ra.Kind != cfi.Offset || row.CFA.Kind != cfi.Register || base != w.arch.sp && base != w.arch.fp {
			continue
		}
		if sp+uint64(row.CFA.Off)+uint64(ra.Off) != slot {
			continue
		}
		pcs = w.callsTo(pcs, row.Start+f.mod.Bias, row.End+f.mod.Bias, entry)
	}
	if len(pcs) == 0 {
		return candidate{}, false
	}
	c := candidate{grade: direct, cfa: sp, guessed: len(pcs) > 1 || entry == 0}
	c.next, _ = w.without(regs, sp-8, pcs[0])
	// Where tables count from the frame pointer, it is at the frame's bottom,
	// as the stack pointer is.
	c.next.Set(w.arch.fp, sp)
	c.ahead = w.lookahead(&c.next)
	return c, c.ahead > 0
}

// callsTo appends the return addresses of calls between start and end that lead
// to entry.
func (w *walker) callsTo(pcs []uint64, start, end, entry uint64) []uint64 {
	const most = 1 << 20 // bytes of one row
	for at := start; at < end && at-start < most && len(pcs) < 16; at += 4 {
		b, err := w.mem.bytes(at, 4)
		if err != nil || len(b) < 4 {
			break
		}
		if binary.LittleEndian.Uint32(b)>>26 != 0x25 {
			continue
		}
		call := w.arch.call(&w.mem, at+4)
		if call.ok && (entry == 0 || w.leadsTo(call.target, entry) == direct) {
			pcs = append(pcs, at+4)
		}
	}
	return pcs
}

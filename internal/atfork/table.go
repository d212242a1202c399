package atfork

import (
	"cmp"
	"slices"

	"forkproof/internal/disasm"
	"forkproof/internal/symbol"
)

// How far a table of pointers is believed to reach where no symbol says it, and
// how many words without a pointer it may have between two.
const (
	maxTable = 4096
	maxGap   = 4
)

// table are the addresses of code in the object at addr: the elements of a
// static list of functions, or of a vtable.
func (b *image) table(addr uint64) []uint64 {
	if all, ok := b.pointers[addr]; ok {
		return all
	}
	all := b.readTable(addr, b.tableEnd(addr))
	b.pointers[addr] = all
	return all
}

func (b *image) readTable(addr, end uint64) []uint64 {
	i, _ := slices.BinarySearchFunc(b.relative, addr, func(r relative, a uint64) int { return cmp.Compare(r.at, a) })
	var out []uint64
	last := addr
	for ; i < len(b.relative) && b.relative[i].at < end; i++ {
		r := b.relative[i]
		if r.at-last > 8*maxGap {
			break
		}
		last = r.at
		if b.executable(r.to) && !slices.Contains(out, r.to) {
			out = append(out, r.to)
		}
	}
	return append(out, b.tableBySymbols(addr, end)...)
}

// maxTables bounds how many tables of one file are measured by what refers to
// their surroundings, which takes a search through all code.
const maxTables = 32

// tableEnd is where the object at addr ends: where its symbol says, else before
// the next place that code or data refer to.
func (b *image) tableEnd(addr uint64) uint64 {
	if s, ok := b.syms.Lookup(addr); ok && s.Kind == symbol.Object && s.Size > 0 && !s.NoSize {
		return min(s.Value+s.Size, addr+16*maxTable)
	}
	if end, ok := b.tables[addr]; ok {
		return end
	}
	end := addr + maxTable
	if len(b.tables) >= maxTables {
		return end
	}
	for _, r := range b.relative {
		if r.to > addr && r.to < end {
			end = r.to
		}
	}
	var around []uint64
	for a := addr; a < end; a += 8 {
		around = append(around, a)
	}
	// Who refers to the object may refer to its second field, too. Damage shows
	// elsewhere: a table that is too long is no harm.
	users, others := make(map[uint64]bool), make(map[uint64]uint64)
	_ = b.sweep(around, func(at, target uint64) {
		f, _, _ := b.bounds(at)
		if target == addr {
			users[f] = true
		} else if old, ok := others[f]; !ok || target < old {
			others[f] = target
		}
	})
	for f, target := range others {
		if !users[f] {
			end = min(end, target)
		}
	}
	b.tables[addr] = end
	return end
}

// tableBySymbols are the addresses that come from exported functions' names, and
// those that a program which is not relocated has in its file.
func (b *image) tableBySymbols(addr, end uint64) []uint64 {
	var out []uint64
	gap := 0
	for a := addr; a < end && gap <= maxGap; a += 8 {
		gap++
		if s, ok := b.slots[a]; ok {
			gap = 0
			if v, ok := b.symbolValue(s).constant(); ok && b.executable(v) {
				out = append(out, v)
			}
		} else if len(b.relative) == 0 {
			v, ok := b.pointer(a)
			if c, one := v.constant(); ok && one && b.executable(c) {
				if start, _, ok := b.bounds(c); ok && start == c {
					gap = 0
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// startsFunction reports whether addr is where a function begins, as far as
// the file tells.
func (b *image) startsFunction(addr uint64) bool {
	if !b.executable(addr) {
		return false
	}
	start, _, ok := b.bounds(addr)
	if ok {
		return start == addr
	}
	// Without tables whatever decodes is believed.
	var buf [16]byte
	n, _ := b.file.ReadVAddr(buf[:], addr)
	return disasm.Decode(b.arch, buf[:n], addr).Kind != disasm.Bad
}

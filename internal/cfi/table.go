package cfi

import (
	"fmt"
	"sort"
)

// searchTable is the table of .eh_frame_hdr: pairs of a function's address and
// its FDE's, in the order of the functions.
type searchTable struct {
	off   uint64 // of the first pair within the header
	count uint64
	enc   uint8
	width uint64 // of one value, half a pair, in bytes
	frame uint64 // address of .eh_frame, 0 where it is left out
}

// readTable reads the first bytes of .eh_frame_hdr: version, encodings of three
// things (the address of .eh_frame, the number of pairs, the pairs) and the
// first two of them.
func (f *Frames) readTable() (searchTable, error) {
	var t searchTable
	b, err := f.hdr.bytes(0, min(f.hdr.size, 64))
	if err != nil {
		return t, err
	}
	c := cursor{b: b, addr: f.hdr.addr}
	version, encFrame, encCount, encTable := c.u8(), c.u8(), c.u8(), c.u8()
	if c.bad || version != 1 {
		return t, fmt.Errorf(".eh_frame_hdr of version %d: %w", version, ErrDamaged)
	}
	base := bases{data: f.hdr.addr, text: f.textBase, deref: f.deref}
	if encFrame != encOmit {
		if t.frame, err = c.pointer(encFrame, base); err != nil {
			return t, fmt.Errorf(".eh_frame_hdr: %w", err)
		}
	}
	if encCount == encOmit || encTable == encOmit {
		return t, nil
	}
	if t.count, err = c.pointer(encCount, base); err != nil {
		return t, fmt.Errorf(".eh_frame_hdr: %w", err)
	}
	t.off, t.enc = uint64(c.pos), encTable
	switch encTable & encFormat {
	case encUData2, encSData2:
		t.width = 2
	case encUData4, encSData4:
		t.width = 4
	case encAbs, encUData8, encSData8, encSigned:
		t.width = 8
	default:
		return t, fmt.Errorf(".eh_frame_hdr: pairs of encoding %#x: %w", encTable, ErrDamaged)
	}
	if encTable&encIndirect != 0 || encTable&encApply == encAligned {
		return t, fmt.Errorf(".eh_frame_hdr: pairs of encoding %#x: %w", encTable, ErrDamaged)
	}
	if t.count > (f.hdr.size-t.off)/(2*t.width) {
		return searchTable{frame: t.frame}, fmt.Errorf(".eh_frame_hdr of %d bytes with %d pairs: %w", f.hdr.size, t.count, ErrDamaged)
	}
	return t, nil
}

// value reads one value of the table: pair i, half 0 (function) or 1 (FDE).
func (f *Frames) value(t searchTable, i uint64, half uint64) (uint64, error) {
	off := t.off + i*2*t.width + half*t.width
	b, err := f.hdr.bytes(off, t.width)
	if err != nil {
		return 0, err
	}
	c := cursor{b: b, addr: f.hdr.addr + off}
	return c.pointer(t.enc, bases{data: f.hdr.addr, text: f.textBase})
}

func (f *Frames) findInTable(t searchTable, pc uint64) (*FDE, error) {
	var failed error
	// The count was checked against the size of the section, so it fits an int.
	i := sort.Search(int(t.count), func(i int) bool {
		v, err := f.value(t, uint64(i), 0)
		if err != nil {
			failed = err
			return true
		}
		return v > pc
	})
	if failed != nil {
		return nil, failed
	}
	if i == 0 {
		return nil, fmt.Errorf("%#x: %w", pc, ErrNoFDE)
	}
	addr, err := f.value(t, uint64(i-1), 1)
	if err != nil {
		return nil, err
	}
	off, ok := f.eh.offset(addr)
	if !ok {
		return nil, fmt.Errorf(".eh_frame_hdr points to %#x, outside of .eh_frame: %w", addr, ErrDamaged)
	}
	d, err := f.fdeAt(f.eh, off)
	if err != nil {
		return nil, err
	}
	if pc < d.Start || pc >= d.End {
		return nil, fmt.Errorf("%#x: %w", pc, ErrNoFDE)
	}
	return d, nil
}

// ehStart is the offset of the first entry of .eh_frame: 0, unless more than
// that section was given and the header tells where it begins.
func (f *Frames) ehStart() uint64 {
	if f.hdr != nil {
		// An error here matters not: the address comes first in the header.
		if t, _ := f.table(); t.frame != 0 {
			if off, ok := f.eh.offset(t.frame); ok {
				return off
			}
		}
	}
	return 0
}

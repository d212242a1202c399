// Package cfi reads DWARF call frame information (.eh_frame through its search
// table .eh_frame_hdr): how a function's caller is found from a place within it.
// The format is that of the DWARF 4 standard, section 6.4, with the changes of
// the Linux Standard Base for .eh_frame.
package cfi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
)

// Errors of lookups.
var (
	ErrNoFDE   = errors.New("no unwind information covers the address")
	ErrDamaged = errors.New("damaged unwind information")
)

const (
	// maxEntry bounds a CIE or FDE; real ones have some kilobytes at most.
	maxEntry = 1 << 20
	// maxTable bounds the search table, 8 bytes an entry.
	maxTable = 32 << 20
	// maxRemember bounds DW_CFA_remember_state.
	maxRemember = 64
)

// Memory reads at the file's own addresses.
type Memory interface {
	ReadVAddr(p []byte, vaddr uint64) (int, error)
}

// Frames is the unwind information of one file.
type Frames struct {
	mem   Memory
	table []byte
	base  uint64
}

// Open reads the search table at hdr.
func Open(mem Memory, hdr, size uint64) (*Frames, error) {
	if size < 12 || size > maxTable {
		return nil, fmt.Errorf(".eh_frame_hdr of %d bytes: %w", size, ErrDamaged)
	}
	b := make([]byte, size)
	if _, err := mem.ReadVAddr(b, hdr); err != nil {
		return nil, fmt.Errorf("read .eh_frame_hdr: %w", err)
	}
	// Every linker writes this one form: 4-byte table entries relative to the
	// header.
	if b[0] != 1 || b[3] != 0x3b || b[2] != 0x03 {
		return nil, fmt.Errorf(".eh_frame_hdr with encodings %x: %w", b[:4], ErrDamaged)
	}
	r := &reader{b: b, addr: hdr, pos: 4}
	r.encoded(b[1], 0)
	n := uint64(r.u32())
	if r.bad || n > uint64(len(b)-r.pos)/8 {
		return nil, fmt.Errorf(".eh_frame_hdr: %w", ErrDamaged)
	}
	return &Frames{mem: mem, base: hdr, table: b[r.pos : r.pos+int(n)*8]}, nil
}

// FDE describes one function.
type FDE struct {
	Start, End uint64
	// Signal marks the frame that the kernel makes to run a signal handler:
	// the caller's address is then exact, not that after a call.
	Signal bool
	cie    cie
	code   []byte
	addr   uint64
}

type cie struct {
	codeAlign uint64
	dataAlign int64
	ra        uint64
	enc       byte
	aug       bool
	signal    bool
	code      []byte
	addr      uint64
}

// FDEFor returns the function that holds pc, an address of the file's own.
func (f *Frames) FDEFor(pc uint64) (*FDE, error) {
	n := len(f.table) / 8
	at := func(i int) uint64 {
		return f.base + uint64(int64(int32(binary.LittleEndian.Uint32(f.table[i*8:]))))
	}
	i := sort.Search(n, func(i int) bool { return at(i) > pc })
	if i == 0 {
		return nil, ErrNoFDE
	}
	addr := f.base + uint64(int64(int32(binary.LittleEndian.Uint32(f.table[(i-1)*8+4:]))))
	fde, err := f.fde(addr)
	if err != nil {
		return nil, err
	}
	if pc < fde.Start || pc >= fde.End {
		return nil, ErrNoFDE
	}
	return fde, nil
}

// entry reads the record at addr, without its length.
func (f *Frames) entry(addr uint64) (*reader, error) {
	// One read serves most records.
	b := make([]byte, 256)
	n, err := f.mem.ReadVAddr(b, addr)
	if n < 8 {
		return nil, fmt.Errorf("read unwind record: %w", err)
	}
	size := binary.LittleEndian.Uint32(b)
	if size == 0 || size > maxEntry {
		return nil, fmt.Errorf("unwind record of %d bytes: %w", size, ErrDamaged)
	}
	if int(size)+4 > n {
		b = make([]byte, size+4)
		if _, err := f.mem.ReadVAddr(b, addr); err != nil {
			return nil, fmt.Errorf("read unwind record: %w", err)
		}
	}
	return &reader{b: b[:size+4], addr: addr, pos: 4}, nil
}

func (f *Frames) fde(addr uint64) (*FDE, error) {
	r, err := f.entry(addr)
	if err != nil {
		return nil, err
	}
	back := r.u32()
	if back == 0 {
		return nil, fmt.Errorf("a CIE where an FDE should be: %w", ErrDamaged)
	}
	c, err := f.cie(addr + 4 - uint64(back))
	if err != nil {
		return nil, err
	}
	d := &FDE{cie: c, Signal: c.signal}
	d.Start = r.encoded(c.enc, 0)
	d.End = d.Start + r.encoded(c.enc&0x0f, 0)
	if c.aug {
		r.skip(r.uleb())
	}
	if r.bad {
		return nil, fmt.Errorf("FDE: %w", ErrDamaged)
	}
	d.code, d.addr = r.b[r.pos:], addr+uint64(r.pos)
	return d, nil
}

func (f *Frames) cie(addr uint64) (cie, error) {
	var c cie
	r, err := f.entry(addr)
	if err != nil {
		return c, err
	}
	if r.u32() != 0 {
		return c, fmt.Errorf("an FDE where a CIE should be: %w", ErrDamaged)
	}
	version := r.u8()
	aug := r.cstring()
	c.codeAlign, c.dataAlign = r.uleb(), r.sleb()
	if version == 1 {
		c.ra = uint64(r.u8())
	} else {
		c.ra = r.uleb()
	}
	for i, a := range aug {
		switch a {
		case 'z':
			if i != 0 {
				return c, fmt.Errorf("CIE augmentation %q: %w", aug, ErrDamaged)
			}
			c.aug = true
			r.uleb()
		case 'R':
			c.enc = r.u8()
		case 'P':
			r.encoded(r.u8(), 0)
		case 'L':
			r.u8()
		case 'S':
			c.signal = true
		case 'B': // aarch64: return addresses are signed with the B key
		default:
			return c, fmt.Errorf("CIE augmentation %q: %w", aug, ErrDamaged)
		}
	}
	if r.bad {
		return c, fmt.Errorf("CIE: %w", ErrDamaged)
	}
	c.code, c.addr = r.b[r.pos:], addr+uint64(r.pos)
	return c, nil
}

package cfi

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"testing"
)

// flat is a Machine of 64 KiB of memory in which every register is known.
type flat struct{}

func (flat) Register(n uint16) (uint64, bool) { return uint64(n) << 4, n < NumRegs }

func (flat) Load(addr uint64, size int) (uint64, error) {
	if addr > 1<<16 {
		return 0, errors.New("no memory there")
	}
	return addr + uint64(size), nil
}

// use does with an FDE whatever a caller can do.
func use(t *testing.T, f *Frames, d *FDE) {
	if d.Start > d.End {
		t.Fatalf("function from %#x to %#x", d.Start, d.End)
	}
	rows := 0
	for row, err := range d.Rows() {
		if err != nil {
			break
		}
		if row.Start >= row.End || row.Start < d.Start || row.End > d.End {
			t.Fatalf("row from %#x to %#x", row.Start, row.End)
		}
		evalAll(row)
		if rows++; rows > 100 {
			break
		}
	}
	for _, pc := range []uint64{d.Start, d.Start + 1, d.End - 1, d.End} {
		row, err := d.RowAt(pc)
		if err != nil {
			continue
		}
		if pc < row.Start || pc >= row.End {
			t.Fatalf("row for %#x is from %#x to %#x", pc, row.Start, row.End)
		}
	}
	_, _ = f.FDEFor(d.Start)
}

func evalAll(row *Row) {
	if row.CFA.Expr != nil {
		_, _ = row.CFA.Expr.Eval(flat{})
	}
	for _, r := range row.Regs {
		if r.Expr != nil {
			_, _ = r.Expr.Eval(flat{}, 0x1000)
		}
	}
}

// seeds are pieces of a real library's tables: enough for a CIE and its FDEs.
func seeds(f *testing.F) (hdr, eh []byte) {
	e, err := elf.Open("/lib/x86_64-linux-gnu/libc.so.6")
	if err != nil {
		f.Skip(err)
	}
	defer func() { _ = e.Close() }()
	h, err := e.Section(".eh_frame_hdr").Data()
	if err != nil {
		f.Fatal(err)
	}
	s, err := e.Section(".eh_frame").Data()
	if err != nil {
		f.Fatal(err)
	}
	return h[:128], s[:1024]
}

func FuzzEHFrame(f *testing.F) {
	hdr, eh := seeds(f)
	f.Add(hdr, eh, uint8(AMD64))
	f.Add([]byte{}, eh, uint8(ARM64))
	f.Add([]byte{1, 0x1b, 3, 0x3b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, eh, uint8(AMD64))
	f.Add(hdr, []byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8}, uint8(AMD64))
	f.Fuzz(func(t *testing.T, hdr, eh []byte, arch uint8) {
		const at = 0x1000
		src := Source{Arch: Arch(arch), EHFrame: Section{Data: eh, Addr: at}}
		// The second time through a reader, which must make no difference.
		lazy := src
		lazy.EHFrame = Section{R: bytes.NewReader(eh), Size: uint64(len(eh)), Addr: at}
		if len(hdr) > 0 {
			src.EHFrameHdr = Section{Data: hdr, Addr: at - uint64(len(hdr))}
			lazy.EHFrameHdr = src.EHFrameHdr
		}
		f1, err := New(src)
		if err != nil {
			return
		}
		f2, err := New(lazy)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for d, err := range f1.All() {
			if err != nil {
				break
			}
			use(t, f1, d)
			a, err1 := f1.FDEFor(d.Start)
			b, err2 := f2.FDEFor(d.Start)
			if (err1 == nil) != (err2 == nil) || err1 == nil && (a.Start != b.Start || a.End != b.End) {
				t.Fatalf("bytes and reader differ: %v, %v", err1, err2)
			}
			if n++; n > 200 {
				break
			}
		}
		for _, pc := range []uint64{0, 0x26000, 0x27280, ^uint64(0)} {
			if d, err := f1.FDEFor(pc); err == nil {
				if pc < d.Start || pc >= d.End {
					t.Fatalf("%#x is said to be in %#x to %#x", pc, d.Start, d.End)
				}
				use(t, f1, d)
			}
		}
	})
}

func FuzzDebugFrame(f *testing.F) {
	f.Add(debugFrame([]byte{opDefCFA, 7, 8, opOffset | 16, 1}, []byte{opAdvance | 1, opDefCFAOffset, 16, opOffset | 6, 2}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 8, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		frames, err := New(Source{Arch: AMD64, DebugFrame: Section{Data: data}})
		if err != nil {
			return
		}
		n := 0
		for d, err := range frames.All() {
			if err != nil {
				break
			}
			use(t, frames, d)
			if n++; n > 200 {
				break
			}
		}
	})
}

func FuzzProgram(f *testing.F) {
	for _, p := range programs {
		f.Add(p.cie, p.fde, uint8(p.arch))
	}
	f.Fuzz(func(t *testing.T, cie, fde []byte, arch uint8) {
		frames, err := New(Source{Arch: Arch(arch), DebugFrame: Section{Data: debugFrame(cie, fde)}})
		if err != nil {
			return
		}
		d, err := frames.FDEFor(0x1000)
		if err != nil {
			return
		}
		use(t, frames, d)
	})
}

func FuzzExpr(f *testing.F) {
	for _, e := range expressions {
		f.Add(e.code)
	}
	f.Fuzz(func(_ *testing.T, code []byte) {
		_, _ = NewExpr(code).Eval(flat{})
		_, _ = NewExpr(code).Eval(flat{}, 1, 2, 3)
	})
}

// debugFrame makes a section of one CIE and one FDE, for 0x1000 to 0x1100, with
// these programs.
func debugFrame(cie, fde []byte) []byte {
	// Version 4, no augmentation, 8-byte addresses, no segments, alignments 1
	// and -8, return address in 16.
	c := append([]byte{0xff, 0xff, 0xff, 0xff, 4, 0, 8, 0, 1, 0x78, 16}, cie...)
	d := []byte{0, 0, 0, 0}
	d = binary.LittleEndian.AppendUint64(d, 0x1000)
	d = binary.LittleEndian.AppendUint64(d, 0x100)
	d = append(d, fde...)
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(c)))
	b = append(b, c...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(d)))
	return append(b, d...)
}

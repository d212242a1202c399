package cfi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

var programs = []struct {
	name     string
	arch     Arch
	cie, fde []byte
	pc       uint64
	check    func(*Row) bool
	err      error
}{
	{
		name: "the row before an advance", arch: AMD64,
		cie: []byte{opDefCFA, 7, 8, opOffset | 16, 1}, fde: []byte{opAdvance | 4, opDefCFAOffset, 16}, pc: 0x1003,
		check: func(r *Row) bool {
			return r.CFA == Rule{Kind: Register, Reg: 7, Off: 8} && r.Regs[16] == Rule{Kind: Offset, Off: -8} && r.Start == 0x1000 && r.End == 0x1004
		},
	},
	{
		name: "the row behind it", arch: AMD64,
		cie: []byte{opDefCFA, 7, 8}, fde: []byte{opAdvance | 4, opDefCFAOffset, 16}, pc: 0x1004,
		check: func(r *Row) bool { return r.CFA.Off == 16 && r.Start == 0x1004 && r.End == 0x1100 },
	},
	{
		name: "remember and restore with the CFA", arch: AMD64,
		cie: []byte{opDefCFA, 7, 8},
		fde: []byte{
			opOffset | 3, 2, opRememberState, opAdvance1, 1, opDefCFA, 6, 16, opSameValue, 3,
			opAdvance2, 1, 0, opRestoreState,
		},
		pc:    0x1002,
		check: func(r *Row) bool { return r.CFA.Reg == 7 && r.Regs[3] == Rule{Kind: Offset, Off: -16} },
	},
	{
		name: "restore takes the CIE's rule", arch: AMD64,
		cie: []byte{opDefCFA, 7, 8, opOffset | 3, 4}, fde: []byte{opSameValue, 3, opUndefined, 12, opRestore | 3, opRestoreExtended, 12}, pc: 0x1000,
		check: func(r *Row) bool {
			return r.Regs[3] == Rule{Kind: Offset, Off: -32} && r.Regs[12].Kind == Unspecified
		},
	},
	{
		name: "signed and value offsets", arch: AMD64,
		cie: []byte{opDefCFASF, 6, 0x7e}, fde: []byte{opOffsetExtendedSF, 3, 0x7f, opValOffset, 7, 2, opValOffsetSF, 12, 0x7f, opNegOffset, 13, 1}, pc: 0x1000,
		check: func(r *Row) bool {
			return r.CFA.Off == 16 && r.Regs[3].Off == 8 && r.Regs[7] == Rule{Kind: ValOffset, Off: -16} && r.Regs[12].Off == 8 && r.Regs[13].Off == 8
		},
	},
	{
		name: "a register in a register, vectors dropped", arch: AMD64,
		cie: []byte{opDefCFA, 7, 8}, fde: []byte{opRegister, 16, 5, opOffsetExtended, 0xe0, 1, 3, opArgsSize, 16}, pc: 0x1000,
		check: func(r *Row) bool { return r.Regs[16] == Rule{Kind: Register, Reg: 5} },
	},
	{
		name: "set_loc and advance_loc4", arch: AMD64,
		cie:   []byte{opDefCFA, 7, 8},
		fde:   append(append([]byte{opSetLoc}, word(0x1010)...), opDefCFAOffsetSF, 0x7e, opAdvance4, 0x10, 0, 0, 0, opDefCFARegister, 6),
		pc:    0x1020,
		check: func(r *Row) bool { return r.CFA == Rule{Kind: Register, Reg: 6, Off: 16} && r.Start == 0x1020 },
	},
	{
		name: "signed return address", arch: ARM64,
		cie: []byte{opDefCFA, 31, 0}, fde: []byte{opAdvance | 4, opNegateRA, opAdvance | 4, opNegateRA}, pc: 0x1005,
		check: func(r *Row) bool { return r.RASigned },
	},
	{
		name: "not signed any more", arch: ARM64,
		cie: []byte{opDefCFA, 31, 0}, fde: []byte{opAdvance | 4, opNegateRA, opAdvance | 4, opNegateRAPC}, pc: 0x1009,
		check: func(r *Row) bool { return !r.RASigned },
	},
	{name: "signing on the wrong processor", arch: AMD64, fde: []byte{opNegateRA}, pc: 0x1000, err: ErrDamaged},
	{name: "restore without remember", arch: AMD64, fde: []byte{opRestoreState}, pc: 0x1000, err: ErrDamaged},
	{name: "remember without end", arch: AMD64, fde: bytes.Repeat([]byte{opRememberState}, maxRemember+1), pc: 0x1000, err: ErrDamaged},
	{name: "unknown instruction", arch: AMD64, fde: []byte{0x3f}, pc: 0x1000, err: ErrDamaged},
	{name: "cut short", arch: AMD64, fde: []byte{opDefCFA, 7}, pc: 0x1000, err: ErrDamaged},
	{name: "expression longer than the program", arch: AMD64, fde: []byte{opDefCFAExpression, 9, 0x77}, pc: 0x1000, err: ErrDamaged},
	{name: "a number without end", arch: AMD64, fde: append([]byte{opUndefined}, bytes.Repeat([]byte{0x80}, 40)...), pc: 0x1000, err: ErrDamaged},
	{name: "going back", arch: AMD64, fde: append([]byte{opSetLoc}, word(0x10)...), pc: 0x1000, err: ErrDamaged},
	{name: "a CIE that moves", arch: AMD64, cie: []byte{opAdvance | 1}, pc: 0x1000, err: ErrDamaged},
	{name: "outside of the function", arch: AMD64, pc: 0x1100, err: ErrNoFDE},
}

func word(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func TestPrograms(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			f, err := New(Source{Arch: p.arch, DebugFrame: Section{Data: debugFrame(p.cie, p.fde)}})
			if err != nil {
				t.Fatal(err)
			}
			d, err := f.FDEFor(0x1000)
			if err != nil {
				t.Fatal(err)
			}
			row, err := d.RowAt(p.pc)
			if !errors.Is(err, p.err) {
				t.Fatalf("error %v, want %v", err, p.err)
			}
			if p.check != nil && !p.check(row) {
				t.Errorf("row %+v", row)
			}
		})
	}
}

var expressions = []struct {
	name  string
	code  []byte
	stack []uint64
	want  uint64
	err   error
}{
	// What binutils writes for PLTs: rsp+8+((((rip&15)>=11)?1:0)<<3). Registers
	// are 16 times their number here, so rsp is 112.
	{name: "PLT", code: []byte{0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}, want: 120},
	{name: "PLT behind the push", code: []byte{0x77, 8, 0x80, 11, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}, want: 128},
	{name: "saved register of a signal frame", code: []byte{0x77, 0xa0, 1, 0x06}, stack: []uint64{1}, want: 112 + 160 + 8},
	{name: "constants", code: []byte{0x09, 0xff, 0x0b, 0xfe, 0xff, 0x22, 0x0d, 3, 0, 0, 0, 0x22}, want: 0},
	{name: "leb constants", code: []byte{0x10, 0xe5, 0x8e, 0x26, 0x11, 0x7f, 0x22, 0x23, 1}, want: 624485},
	{name: "rot", code: []byte{0x31, 0x32, 0x33, 0x17, 0x13}, want: 1},
	{name: "rot keeps the rest in order", code: []byte{0x31, 0x32, 0x33, 0x17}, want: 2},
	{name: "over, pick, swap, drop", code: []byte{0x35, 0x36, 0x14, 0x15, 1, 0x16, 0x13}, want: 6},
	{name: "bits", code: []byte{0x3c, 0x3a, 0x27, 0x20, 0x1f, 0x31, 0x25, 0x31, 0x26, 0x31, 0x21}, want: 1},
	{name: "signed division", code: []byte{0x09, 0xf9, 0x32, 0x1b, 0x19}, want: 3},
	{name: "modulo", code: []byte{0x37, 0x34, 0x1d}, want: 3},
	{name: "branches", code: []byte{0x31, 0x28, 1, 0, 0x35, 0x37, 0x2f, 1, 0, 0x96, 0x32, 0x1e}, want: 14},
	{name: "comparisons", code: []byte{0x09, 0xff, 0x31, 0x2d, 0x31, 0x29, 0x30, 0x2e, 0x30, 0x2b, 0x31, 0x2c}, want: 1},
	{name: "a byte", code: []byte{0x38, 0x94, 1}, want: 9},
	{name: "empty", err: ErrDamaged},
	{name: "underflow", code: []byte{0x22}, err: ErrDamaged},
	{name: "overflow", code: bytes.Repeat([]byte{0x30}, maxStack+1), err: ErrDamaged},
	{name: "endless", code: []byte{0x2f, 0xfd, 0xff}, err: ErrDamaged},
	{name: "jump out", code: []byte{0x2f, 0xf0, 0xff}, err: ErrDamaged},
	{name: "division by zero", code: []byte{0x31, 0x30, 0x1b}, err: ErrDamaged},
	{name: "a register that nobody knows", code: []byte{0x92, 40, 0}, err: ErrUnknown},
	{name: "deref of 3 bytes", code: []byte{0x31, 0x94, 3}, err: ErrDamaged},
	{name: "a place of a variable", code: []byte{0x9c}, err: ErrDamaged},
	{name: "cut short", code: []byte{0x0e, 1}, err: ErrDamaged},
}

func TestExpressions(t *testing.T) {
	for _, e := range expressions {
		t.Run(e.name, func(t *testing.T) {
			got, err := NewExpr(e.code).Eval(flat{}, e.stack...)
			if !errors.Is(err, e.err) || e.err != nil && got != 0 {
				t.Fatalf("%d, error %v, want %v", got, err, e.err)
			}
			if e.err == nil && got != e.want {
				t.Errorf("%d, want %d", got, e.want)
			}
		})
	}
}

// entry prefixes a CIE or FDE with its length.
func entry(b ...[]byte) []byte {
	body := bytes.Join(b, nil)
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func TestAugmentations(t *testing.T) {
	const at = 0x2000
	// A CIE of this augmentation, and one FDE with addresses as enc says.
	table := func(aug string, data []byte, pc []byte) []byte {
		cie := entry(
			[]byte{0, 0, 0, 0, 1}, []byte(aug), []byte{0, 1, 0x78, 16}, data,
			[]byte{opDefCFA, 7, 8, opOffset | 16, 1},
		)
		back := uint32(len(cie) + 4)
		return append(cie, entry(binary.LittleEndian.AppendUint32(nil, back), pc)...)
	}
	abs := append(word(0x1000), word(0x100)...)
	cases := []struct {
		name   string
		table  []byte
		signal bool
		err    string
	}{
		{"none", table("", nil, abs), false, ""},
		{"signal", table("zRS", []byte{1, 0}, append(abs, 0)), true, ""},
		{"signal without size", table("S", nil, abs), true, ""},
		{"personality and B key", table("zPLRB", []byte{7, 0x9b, 1, 2, 3, 4, 0x1b, 0}, append(abs, 4, 0, 0, 0, 0)), false, ""},
		{"indirect", table("zR", []byte{1, 0x80}, append(append(word(0x9000), word(0x100)...), 0)), false, ""},
		{"udata2", table("zR", []byte{1, 0x02}, []byte{0, 0x10, 0, 1, 0}), false, ""},
		{"sleb", table("zR", []byte{1, 0x09}, []byte{0x80, 0x20, 0x80, 2, 0}), false, ""},
		{"text relative", table("zR", []byte{1, 0x20 | 0x03}, []byte{0, 0x0c, 0, 0, 0, 1, 0, 0, 0}), false, ""},
		{"unknown letter", table("zX", []byte{0}, append(abs, 0)), false, "augmentation"},
		{"no size", table("R", []byte{0}, abs), false, "augmentation"},
		{"data longer than the CIE", table("zR", []byte{100, 0}, abs), false, "damaged"},
		{"unknown format", table("zR", []byte{1, 0x07}, append(abs, 0)), false, "encoding"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, err := New(Source{
				Arch: AMD64, EHFrame: Section{Data: c.table, Addr: at}, TextBase: 0x400,
				Deref: func(a uint64) (uint64, error) { return a - 0x8000, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			// The scan for an index passes over bad entries; this does not.
			var d *FDE
			for d, err = range f.All() {
				break
			}
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !errors.Is(err, ErrDamaged) {
					t.Fatalf("error %v, want one about %q", err, c.err)
				}
				return
			}
			if err != nil || d.Start != 0x1000 || d.End != 0x1100 || d.Signal != c.signal || d.RA != 16 {
				t.Fatalf("%+v, %v", d, err)
			}
			if row, err := d.RowAt(0x1050); err != nil || row.CFA.Off != 8 {
				t.Errorf("%+v, %v", row, err)
			}
			if g, err := f.FDEFor(0x10ff); err != nil || g.Start != d.Start {
				t.Errorf("lookup: %+v, %v", g, err)
			}
		})
	}
}

// TestSearchTables looks functions up through tables of every encoding.
func TestSearchTables(t *testing.T) {
	const hdrAt, at = 0x1f00, 0x2000
	eh := entry([]byte{0, 0, 0, 0, 1, 0, 1, 0x78, 16, opDefCFA, 7, 8})
	var offs []uint64
	for i := range uint64(50) {
		offs = append(offs, uint64(len(eh)))
		back := uint32(len(eh) + 4)
		eh = append(eh, entry(binary.LittleEndian.AppendUint32(nil, back), word(0x5000+i*0x100), word(0x80))...)
	}
	put := func(b []byte, enc uint8, v uint64) []byte {
		switch enc & encApply {
		case encPCRel:
			v -= hdrAt + uint64(len(b))
		case encDataRel:
			v -= hdrAt
		}
		switch enc & 7 {
		case 2:
			return binary.LittleEndian.AppendUint16(b, uint16(v))
		case 3:
			return binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		return binary.LittleEndian.AppendUint64(b, v)
	}
	for _, enc := range []uint8{0x3b, 0x33, 0x1b, 0x03, 0x00, 0x04, 0x0c, 0x3c, 0x02, 0x32, encOmit, 0x01, 0x9b} {
		hdr := []byte{1, 0x1b, 3, enc}
		hdr = put(hdr, 0x1b, at)
		hdr = put(hdr, 3, uint64(len(offs)))
		if enc != encOmit && enc&7 != 1 {
			for i, off := range offs {
				hdr = put(hdr, enc, 0x5000+uint64(i)*0x100)
				hdr = put(hdr, enc, at+off)
			}
		}
		f, err := New(Source{Arch: AMD64, EHFrameHdr: Section{Data: hdr, Addr: hdrAt}, EHFrame: Section{Data: eh, Addr: at}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(50) {
			d, err := f.FDEFor(0x5000 + i*0x100 + 0x7f)
			if err != nil || d.Start != 0x5000+i*0x100 {
				t.Errorf("encoding %#x, function %d: %+v, %v", enc, i, d, err)
			}
			if d, err := f.FDEFor(0x5000 + i*0x100 + 0x80); !errors.Is(err, ErrNoFDE) {
				t.Errorf("encoding %#x, behind function %d: %+v, %v", enc, i, d, err)
			}
		}
		if _, err := f.FDEFor(0x4fff); !errors.Is(err, ErrNoFDE) {
			t.Errorf("encoding %#x, before all: %v", enc, err)
		}
	}
}

// TestWholeSegment finds .eh_frame within more than itself, as where only the
// program headers are at hand.
func TestWholeSegment(t *testing.T) {
	eh := entry([]byte{0, 0, 0, 0, 1, 0, 1, 0x78, 16, opDefCFA, 7, 8})
	eh = append(eh, entry(binary.LittleEndian.AppendUint32(nil, uint32(len(eh)+4)), word(0x5000), word(0x80))...)
	segment := append(append(bytes.Repeat([]byte{0xcc}, 64), eh...), 0, 0, 0, 0, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc)
	hdr := append([]byte{1, 0x00, encOmit, encOmit}, word(0x2000+64)...)
	f, err := New(Source{Arch: AMD64, EHFrameHdr: Section{Data: hdr, Addr: 0x1000}, EHFrame: Section{Data: segment, Addr: 0x2000}})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := f.FDEFor(0x5010); err != nil || d.Start != 0x5000 {
		t.Errorf("%+v, %v", d, err)
	}
}

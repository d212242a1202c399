package atfork

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"forkproof/internal/cfi"
	"forkproof/internal/disasm"
	"forkproof/internal/elffile"
	"forkproof/internal/symbol"
	"forkproof/internal/unwind"
)

// image is one ELF file with what it takes to follow its code: where functions
// begin and end, and what the loader will put where.
type image struct {
	path   string
	file   *elffile.File
	arch   disasm.Arch
	frames *cfi.Frames // nil where the file has no unwind tables
	syms   *symbol.Table
	dyn    []dynSym

	// slots are the places that get the address of a dynamic symbol.
	slots map[uint64]slot
	// tls are the places that get a function of the loader for a thread-local
	// variable.
	tls map[uint64]bool
	// relative are the places that get an address of this file, in order.
	relative []relative

	// left is how many bytes of code may still be decoded, and steps how many
	// instructions may be followed with what is known of values.
	left, steps uint64

	functions map[uint64]*function
	stubs     map[uint64]callee
	tables    map[uint64]uint64 // ends of objects without symbols
	pointers  map[uint64][]uint64
}

type dynSym struct {
	name  string
	value uint64 // 0 for an imported one
	kind  elf.SymType
}

// slot is a place that the loader fills by a symbol.
type slot struct {
	sym    int
	addend int64
}

type relative struct{ at, to uint64 }

// maxImports bounds the names that are kept of one file.
const maxImports = 1 << 20

// open reads what is needed of every file: its dynamic symbols. It returns
// errors of package elffile.
func open(path string, file *elffile.File, debug bool) (*image, error) {
	b := &image{
		path: path, file: file, arch: disasm.AMD64,
		functions: make(map[uint64]*function), stubs: make(map[uint64]callee), tables: make(map[uint64]uint64),
		pointers: make(map[uint64][]uint64), steps: maxSteps,
	}
	// Functions do not overlap, in honest files.
	for _, s := range file.Segments {
		if s.Type == elf.PT_LOAD && s.Flags&elf.PF_X != 0 {
			b.left += min(s.FileSize, 1<<32)
		}
	}
	b.left = 2*b.left + maxCode
	if file.Machine() == elf.EM_AARCH64 {
		b.arch = disasm.ARM64
	}
	b.syms = symbol.New(file, symbol.Options{Path: path, NoDebugFiles: !debug})
	if err := b.readSymbols(); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *image) readSymbols() error {
	if _, err := b.file.Dynamic(); errors.Is(err, elffile.ErrAbsent) {
		return nil // a static program
	} else if err != nil {
		return err
	}
	syms, err := b.file.DynamicSymbols()
	if err != nil {
		return err
	}
	raw, err := syms.Bytes()
	if err != nil {
		return err
	}
	if len(raw)/elffile.SymSize > maxImports {
		return fmt.Errorf("%d dynamic symbols: %w", len(raw)/elffile.SymSize, elffile.ErrDamaged)
	}
	// One read of all names; a table that is too large to be true is read name
	// by name, and fails there.
	var names []byte
	if syms.Strings.Size <= 64<<20 {
		if names, err = syms.Strings.Bytes(); err != nil {
			return err
		}
	}
	b.dyn = make([]dynSym, 0, len(raw)/elffile.SymSize)
	for ; len(raw) >= elffile.SymSize; raw = raw[elffile.SymSize:] {
		s := elffile.ParseSym(raw)
		d := dynSym{kind: s.Type()}
		if s.Section != elf.SHN_UNDEF && s.Section != elf.SHN_ABS {
			d.value = s.Value
		}
		if names != nil {
			if uint64(s.Name) < uint64(len(names)) {
				n := names[s.Name:]
				n = n[:min(len(n), 4096)]
				if i := slices.Index(n, 0); i >= 0 {
					d.name = string(n[:i])
				}
			}
		} else if d.name, err = syms.Name(s.Name); err != nil {
			return err
		}
		b.dyn = append(b.dyn, d)
	}
	return nil
}

// imports reports whether the file takes one of names from another library.
func (b *image) imports(names ...string) bool {
	return slices.ContainsFunc(b.dyn, func(d dynSym) bool { return d.value == 0 && slices.Contains(names, d.name) })
}

// link reads unwind tables and relocations, which only files that are walked
// need.
func (b *image) link() error {
	var err error
	if b.frames, err = unwind.Tables(b.file); err != nil && !errors.Is(err, cfi.ErrNoFDE) {
		return fmt.Errorf("unwind tables: %w", err)
	}
	b.slots, b.tls = make(map[uint64]slot), make(map[uint64]bool)
	abs, relativeType := map[uint32]bool{uint32(elf.R_X86_64_64): true, uint32(elf.R_X86_64_GLOB_DAT): true, uint32(elf.R_X86_64_JMP_SLOT): true}, uint32(elf.R_X86_64_RELATIVE)
	if b.arch == disasm.ARM64 {
		abs, relativeType = map[uint32]bool{uint32(elf.R_AARCH64_ABS64): true, uint32(elf.R_AARCH64_GLOB_DAT): true, uint32(elf.R_AARCH64_JUMP_SLOT): true}, uint32(elf.R_AARCH64_RELATIVE)
	}
	tlsDesc := uint32(elf.R_X86_64_TLSDESC)
	if b.arch == disasm.ARM64 {
		tlsDesc = uint32(elf.R_AARCH64_TLSDESC)
	}
	sorted := true
	err = b.file.Relocs(func(r elffile.Reloc) error {
		switch {
		case r.Type == relativeType:
			if n := len(b.relative); n > 0 && b.relative[n-1].at > r.Off {
				sorted = false
			}
			b.relative = append(b.relative, relative{r.Off, uint64(r.Addend)})
		case r.Type == tlsDesc:
			b.tls[r.Off] = true
		case abs[r.Type] && int(r.Sym) < len(b.dyn):
			b.slots[r.Off] = slot{int(r.Sym), r.Addend}
		}
		return nil
	})
	if _, static := b.file.Dynamic(); err != nil && static == nil {
		return err
	}
	if !sorted {
		slices.SortFunc(b.relative, func(x, y relative) int { return cmp.Compare(x.at, y.at) })
	}
	return nil
}

// pointer is what the loader puts into the 8 bytes at addr: the address of a
// symbol, an address of this file, or what the file itself has there.
func (b *image) pointer(addr uint64) (v value, ok bool) {
	soft := b.writable(addr)
	if b.tls[addr] {
		return value{kind: isTLS, n: 1}, true
	}
	if s, ok := b.slots[addr]; ok {
		v := b.symbolValue(s)
		// Of what is imported nothing else is known, wherever it is kept.
		v.soft = soft && v.kind == isAddr && !b.relro(addr)
		return v, true
	}
	soft = soft && !b.relro(addr)
	if i, ok := slices.BinarySearchFunc(b.relative, addr, func(r relative, a uint64) int { return cmp.Compare(r.at, a) }); ok {
		v := address(b.relative[i].to)
		v.soft = soft
		return v, true
	}
	raw, err := b.file.BytesAt(addr, 8)
	if err != nil {
		return value{}, false
	}
	to := binary.LittleEndian.Uint64(raw)
	if !soft {
		return address(to), true
	}
	// A program that is not relocated has addresses in its file.
	if b.file.Type() == elf.ET_EXEC && b.executable(to) {
		v := address(to)
		v.soft = true
		return v, true
	}
	return value{}, false
}

func (b *image) symbolValue(s slot) value {
	d := b.dyn[s.sym]
	if d.value == 0 {
		return value{kind: isImport, a: [4]uint64{uint64(s.sym)}}
	}
	return address(d.value + uint64(s.addend))
}

func (b *image) segment(addr uint64) (elffile.Segment, bool) {
	for _, s := range b.file.Segments {
		if s.Type == elf.PT_LOAD && addr >= s.VAddr && addr-s.VAddr < s.MemSize {
			return s, true
		}
	}
	return elffile.Segment{}, false
}

func (b *image) executable(addr uint64) bool {
	s, ok := b.segment(addr)
	return ok && s.Flags&elf.PF_X != 0
}

func (b *image) writable(addr uint64) bool {
	s, ok := b.segment(addr)
	return ok && s.Flags&elf.PF_W != 0
}

// relro reports whether the loader protects addr after it has filled it.
func (b *image) relro(addr uint64) bool {
	s, ok := b.file.Segment(elf.PT_GNU_RELRO)
	return ok && addr >= s.VAddr && addr-s.VAddr < s.MemSize
}

// bounds are the first address and the end of the function that covers addr.
func (b *image) bounds(addr uint64) (start, end uint64, ok bool) {
	if b.frames != nil {
		if d, err := b.frames.FDEFor(addr); err == nil {
			return d.Start, d.End, b.executable(d.Start) && d.End > d.Start
		}
	}
	if s, ok := b.syms.Lookup(addr); ok && s.Kind == symbol.Func && s.Size > 0 {
		return s.Value, s.Value + s.Size, b.executable(s.Value)
	}
	return 0, 0, false
}

// maxCode bounds one function, in bytes. The interpreters' main loops have some
// 100 KiB.
const maxCode = 1 << 20

// maxSteps bounds the work on one file: some seconds. libLLVM takes a hundredth.
const maxSteps = 400_000_000

// code reads the machine code from start to end.
func (b *image) code(start, end uint64) ([]byte, error) {
	if end-start > maxCode {
		return nil, fmt.Errorf("a function of %d bytes at %#x", end-start, start)
	}
	if end-start > b.left {
		return nil, fmt.Errorf("functions overlap so often that those after %#x were left out", start)
	}
	b.left -= end - start
	return b.file.BytesAt(start, end-start)
}

// name is what to call the function at addr, mangled names in short form.
func (b *image) name(addr uint64) string {
	if s, ok := b.syms.Lookup(addr); ok && (s.Value == addr || !s.NoSize && s.Kind == symbol.Func) {
		n := symbol.Short(s.Name)
		if off := addr - s.Value; off != 0 {
			return fmt.Sprintf("%s+%#x", n, off)
		}
		return n
	}
	return fmt.Sprintf("%#x", addr)
}

// variable names the object at addr.
func (b *image) variable(addr uint64) string {
	if s, ok := b.syms.Lookup(addr); ok && s.Kind == symbol.Object {
		n := symbol.Short(s.Name)
		if off := addr - s.Value; off != 0 {
			return fmt.Sprintf("%s+%#x", n, off)
		}
		return n
	}
	return fmt.Sprintf("%#x", addr)
}

// callee is what a call leads to.
type callee struct {
	// name of an imported function, empty for one of this file.
	name string
	addr uint64
	ok   bool
}

// target follows the stubs of the procedure linkage table: addr is where a call
// goes to.
func (b *image) target(addr uint64) callee {
	if c, ok := b.stubs[addr]; ok {
		return c
	}
	c := callee{addr: addr, ok: b.executable(addr)}
	if s, ok := b.stubSlot(addr); ok {
		c = callee{}
		if v, ok := b.pointer(s); ok {
			c = b.calleeOf(v)
		}
	}
	b.stubs[addr] = c
	return c
}

// calleeOf is the function that a value stands for, not ok unless it is one.
func (b *image) calleeOf(v value) callee {
	switch {
	case v.kind == isImport:
		return callee{name: b.dyn[v.a[0]].name, ok: true}
	case v.kind == isAddr && v.n == 1 && b.executable(v.a[0]):
		return callee{addr: v.a[0], ok: true}
	}
	return callee{}
}

// stubSlot is the place that the stub at addr jumps through, if it is one.
// x86-64: perhaps ENDBR64, perhaps BND, JMP through memory. AArch64: perhaps BTI,
// then ADRP x16, LDR x17, ADD x16, BR x17.
func (b *image) stubSlot(addr uint64) (uint64, bool) {
	var buf [20]byte
	n, _ := b.file.ReadVAddr(buf[:], addr)
	code := buf[:n]
	skip := func(prefix string) {
		if strings.HasPrefix(string(code), prefix) {
			code, addr = code[len(prefix):], addr+uint64(len(prefix))
		}
	}
	if b.arch == disasm.AMD64 {
		skip("\xf3\x0f\x1e\xfa")
		skip("\xf2")
		if len(code) < 6 || code[0] != 0xff || code[1] != 0x25 {
			return 0, false
		}
		return disasm.Decode(b.arch, code, addr).Ref, true
	}
	skip("\x5f\x24\x03\xd5")
	if len(code) < 16 {
		return 0, false
	}
	page, load := disasm.Decode(b.arch, code, addr), disasm.Decode(b.arch, code[4:], addr+4)
	last := disasm.Decode(b.arch, code[12:], addr+12)
	if page.Op != disasm.Page || page.Dst != 16 || load.Op != disasm.Load || load.Dst != 17 || load.Src != 16 || last.Kind != disasm.Jump || !last.Indirect || last.Src != 17 {
		return 0, false
	}
	return uint64(page.Imm + load.Imm), true
}

// sweep searches all code for the places that name one of wanted.
func (b *image) sweep(wanted []uint64, found func(at, target uint64)) error {
	s := disasm.NewSweep(b.arch, wanted)
	const piece = 1 << 20
	var buf []byte
	for _, seg := range b.file.Segments {
		if seg.Type != elf.PT_LOAD || seg.Flags&elf.PF_X == 0 || seg.FileSize == 0 {
			continue
		}
		if seg.VAddr+seg.FileSize < seg.VAddr {
			return fmt.Errorf("segment at %#x of %d bytes: %w", seg.VAddr, seg.FileSize, elffile.ErrDamaged)
		}
		data, err := b.file.SegmentData(seg)
		if err != nil {
			return err
		}
		if buf == nil {
			buf = make([]byte, piece+disasm.Overlap)
		}
		for off := uint64(0); off < data.Size; off += piece {
			n, err := data.ReadAt(buf[:min(uint64(len(buf)), data.Size-off)], int64(off))
			if err != nil {
				return fmt.Errorf("code at %#x: %w", seg.VAddr+off, err)
			}
			s.Run(buf[:n], seg.VAddr+off, found)
		}
	}
	return nil
}

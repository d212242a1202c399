// Package elffile reads of ELF files what is needed to name addresses and to
// unwind stacks: segments, symbols, build-id and unwind tables. It reads as
// little as it can: an inspection has milliseconds.
package elffile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/ianlancetaylor/demangle"
)

// ErrNot64 is the error for a 32-bit file, whose processes forkproof cannot read.
var ErrNot64 = errors.New("a 32-bit ELF file; forkproof reads 64-bit processes only")

// maxTable bounds a symbol table and its strings, 64 MiB each.
const maxTable = 64 << 20

// Symbol is a named address range of the file's own address space.
type Symbol struct {
	Name        string
	Value, Size uint64
	Func        bool
}

// File is an opened ELF file. It is not safe for concurrent use.
type File struct {
	elf  *elf.File
	r    io.ReaderAt
	syms []entry
	strs [][]byte
	read bool
}

type entry struct {
	value, size uint64
	name        uint32
	table       uint8
	fn          bool
}

// Open reads the headers of an ELF file. The reader must stay usable as long as
// the File.
func Open(r io.ReaderAt) (f *File, err error) {
	// debug/elf is careful, but a damaged file must never end forkproof.
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, fmt.Errorf("damaged ELF file: %v", p)
		}
	}()
	e, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("not a readable ELF file: %w", err)
	}
	if e.Class != elf.ELFCLASS64 || e.Data != elf.ELFDATA2LSB {
		return nil, ErrNot64
	}
	return &File{elf: e, r: r}, nil
}

// Machine returns the processor the file is for.
func (f *File) Machine() elf.Machine { return f.elf.Machine }

// Bias returns what to add to the file's own addresses to get those of a
// process which has the part at file offset off mapped at start.
func (f *File) Bias(start, off uint64) (uint64, bool) {
	const page = 4095
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_LOAD && p.Off&^page <= off && off < p.Off+p.Filesz {
			return start - (p.Vaddr&^page + (off - p.Off&^page)), true
		}
	}
	return 0, false
}

// BuildID returns the build-id in hexadecimal, empty where the file has none.
func (f *File) BuildID() string {
	for _, p := range f.elf.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > 1<<16 {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			continue
		}
		for len(b) >= 12 {
			name, desc, typ := int(le32(b)), int(le32(b[4:])), le32(b[8:])
			end := 12 + (name+3)&^3
			if name < 0 || desc < 0 || name > len(b) || desc > len(b) || end+desc > len(b) {
				break
			}
			if typ == 3 && string(b[12:12+name]) == "GNU\x00" {
				return hex.EncodeToString(b[end : end+desc])
			}
			b = b[min(end+(desc+3)&^3, len(b)):]
		}
	}
	return ""
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// Section returns the address and size of a named section.
func (f *File) Section(name string) (addr, size uint64, ok bool) {
	s := f.elf.Section(name)
	if s == nil {
		return 0, 0, false
	}
	return s.Addr, s.Size, true
}

// ReadVAddr reads file data at the file's own addresses, as io.ReaderAt.
func (f *File) ReadVAddr(p []byte, vaddr uint64) (int, error) {
	for _, s := range f.elf.Progs {
		if s.Type == elf.PT_LOAD && vaddr >= s.Vaddr && vaddr < s.Vaddr+s.Filesz {
			n := min(uint64(len(p)), s.Vaddr+s.Filesz-vaddr)
			m, err := s.ReadAt(p[:n], int64(vaddr-s.Vaddr))
			if err == nil && m < len(p) {
				err = io.ErrUnexpectedEOF
			}
			return m, err
		}
	}
	return 0, fmt.Errorf("address 0x%x is in no segment of the file", vaddr)
}

// EHFrameHdr returns where the search table of the unwind information is.
func (f *File) EHFrameHdr() (addr, size uint64, ok bool) {
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_GNU_EH_FRAME {
			return p.Vaddr, p.Filesz, true
		}
	}
	return 0, 0, false
}

// load reads the symbol tables once: .symtab where there is one, and .dynsym.
func (f *File) load() {
	if f.read {
		return
	}
	f.read = true
	for _, s := range f.elf.Sections {
		if s.Type != elf.SHT_SYMTAB && s.Type != elf.SHT_DYNSYM {
			continue
		}
		if s.Size > maxTable || int(s.Link) >= len(f.elf.Sections) || len(f.strs) > 8 {
			continue
		}
		str := f.elf.Sections[s.Link]
		if str.Size > maxTable {
			continue
		}
		tab, err := s.Data()
		if err != nil {
			continue
		}
		strs, err := str.Data()
		if err != nil {
			continue
		}
		f.strs = append(f.strs, strs)
		for ; len(tab) >= 24; tab = tab[24:] {
			typ := elf.SymType(tab[4] & 0xf)
			shndx := binary.LittleEndian.Uint16(tab[6:])
			if shndx == 0 || (typ != elf.STT_FUNC && typ != elf.STT_OBJECT && typ != elf.STT_NOTYPE && typ != elf.STT_GNU_IFUNC) {
				continue
			}
			e := entry{
				name: le32(tab), value: binary.LittleEndian.Uint64(tab[8:]), size: binary.LittleEndian.Uint64(tab[16:]),
				table: uint8(len(f.strs) - 1), fn: typ == elf.STT_FUNC || typ == elf.STT_GNU_IFUNC,
			}
			if e.value != 0 && e.size != 0 {
				f.syms = append(f.syms, e)
			}
		}
	}
	sort.SliceStable(f.syms, func(i, j int) bool { return f.syms[i].value < f.syms[j].value })
}

func (f *File) symbol(e entry) Symbol {
	s := f.strs[e.table]
	if int(e.name) >= len(s) {
		return Symbol{}
	}
	name := s[e.name:]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return Symbol{Name: string(name), Value: e.value, Size: e.size, Func: e.fn}
}

// Lookup returns the symbol whose range holds the file's own address vaddr.
// Where several do, the best known name wins: one without leading underscores,
// then the shortest.
func (f *File) Lookup(vaddr uint64) (Symbol, bool) {
	f.load()
	i := sort.Search(len(f.syms), func(i int) bool { return f.syms[i].value > vaddr })
	var best Symbol
	var found bool
	for looked := 0; i > 0 && looked < 64; looked++ {
		i--
		e := f.syms[i]
		if found && e.value != best.Value {
			break
		}
		if vaddr-e.value >= e.size {
			continue
		}
		s := f.symbol(e)
		if s.Name != "" && (!found || better(s.Name, best.Name)) {
			best, found = s, true
		}
	}
	return best, found
}

func better(a, b string) bool {
	ua, ub := a[0] == '_', b[0] == '_'
	if ua != ub {
		return ub
	}
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// ByName returns the first symbol of that name.
func (f *File) ByName(name string) (Symbol, bool) {
	f.load()
	want := []byte(name)
	for _, e := range f.syms {
		s := f.strs[e.table]
		n := uint64(e.name)
		if n+uint64(len(want)) < uint64(len(s)) && s[n+uint64(len(want))] == 0 && bytes.Equal(s[n:n+uint64(len(want))], want) {
			return f.symbol(e), true
		}
	}
	return Symbol{}, false
}

// Demangle turns the mangled name of a C++ or Rust function into what its
// author wrote, without parameters; other names are returned as they are.
func Demangle(name string) string {
	return demangle.Filter(name, demangle.NoParams, demangle.NoTemplateParams)
}

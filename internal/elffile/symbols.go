package elffile

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// maxSymbols bounds symbol tables: libLLVM with all its symbols has 200,000,
// a browser with debug symbols about two million.
const maxSymbols = 1 << 22

// RawSym is one entry of a symbol table as the file has it.
type RawSym struct {
	Name        uint32 // offset in the string table
	Info, Other byte
	Section     elf.SectionIndex
	Value, Size uint64
}

// ParseSym decodes the first SymSize bytes of p, which must be that long.
func ParseSym(p []byte) RawSym {
	_ = p[SymSize-1]
	return RawSym{
		Name:    binary.LittleEndian.Uint32(p),
		Info:    p[4],
		Other:   p[5],
		Section: elf.SectionIndex(binary.LittleEndian.Uint16(p[6:])),
		Value:   binary.LittleEndian.Uint64(p[8:]),
		Size:    binary.LittleEndian.Uint64(p[16:]),
	}
}

// Symbols is a symbol table of the file, read on demand.
type Symbols struct {
	// Table is the entries, Strings their names. The size of Table is known
	// only after Count where the table was found through the dynamic section.
	Table, Strings Data
	// FirstGlobal is the index of the first symbol that is not local, or 0
	// where that is not known.
	FirstGlobal int

	f       *File
	dynamic *Dynamic // nil for a table that was found by its section
	count   func() (int, error)
	gnu     func() (*gnuHash, error)
}

// StaticSymbols is .symtab, with all symbols local ones included. A stripped
// file and an image in memory give ErrAbsent.
func (f *File) StaticSymbols() (*Symbols, error) { return f.sectionSymbols(elf.SHT_SYMTAB) }

// DynamicSymbols is the table of the symbols that a library exports and
// imports: through the dynamic section, else through section .dynsym. Where
// there is none the error wraps ErrAbsent.
func (f *File) DynamicSymbols() (*Symbols, error) {
	d, err := f.dynamic()
	if err != nil {
		if f.mem == nil && errors.Is(err, ErrAbsent) {
			return f.sectionSymbols(elf.SHT_DYNSYM)
		}
		return nil, err
	}
	addr, ok := d.Addr(elf.DT_SYMTAB)
	if !ok {
		return nil, fmt.Errorf("dynamic symbol table: %w", ErrAbsent)
	}
	if n, ok := d.Value(elf.DT_SYMENT); ok && n != SymSize {
		return nil, fmt.Errorf("dynamic symbols of %d bytes, not %d: %w", n, SymSize, ErrDamaged)
	}
	table, err := f.FromVAddr(addr)
	if err != nil {
		return nil, fmt.Errorf("dynamic symbol table: %w", err)
	}
	if d.err != nil {
		return nil, d.err
	}
	s := &Symbols{Table: table, Strings: d.strs, f: f, dynamic: d}
	s.count = sync.OnceValues(s.countDynamic)
	s.gnu = sync.OnceValues(s.readGNUHash)
	return s, nil
}

func (f *File) sectionSymbols(t elf.SectionType) (*Symbols, error) {
	all, err := f.sections()
	if err != nil {
		return nil, err
	}
	for _, sec := range all {
		if sec.Type != t {
			continue
		}
		if sec.EntSize != SymSize {
			return nil, fmt.Errorf("section %s has entries of %d bytes, not %d: %w", sec.Name, sec.EntSize, SymSize, ErrDamaged)
		}
		if sec.Link <= 0 || sec.Link >= len(all) {
			return nil, fmt.Errorf("section %s has its strings in section %d, of %d: %w", sec.Name, sec.Link, len(all), ErrDamaged)
		}
		table, err := f.SectionData(sec)
		if err != nil {
			return nil, err
		}
		strs, err := f.SectionData(all[sec.Link])
		if err != nil {
			return nil, err
		}
		if table.Size/SymSize > maxSymbols {
			return nil, fmt.Errorf("section %s has %d symbols: %w", sec.Name, table.Size/SymSize, ErrDamaged)
		}
		n := int(table.Size / SymSize)
		s := &Symbols{Table: table, Strings: strs, FirstGlobal: min(sec.Info, n), f: f}
		s.count = func() (int, error) { return n, nil }
		s.gnu = func() (*gnuHash, error) { return nil, fmt.Errorf("hash table: %w", ErrAbsent) }
		return s, nil
	}
	return nil, fmt.Errorf("symbol table: %w", ErrAbsent)
}

// Count is the number of entries, the empty one with index 0 included. The
// dynamic section does not say it: it is worked out from the hash tables or
// taken from the section headers.
func (s *Symbols) Count() (int, error) { return s.count() }

func (s *Symbols) countDynamic() (int, error) {
	if addr, ok := s.dynamic.Addr(elf.DT_HASH); ok {
		raw, err := s.f.BytesAt(addr, 8)
		if err != nil {
			return 0, fmt.Errorf("symbol hash table: %w", err)
		}
		return s.checkCount(uint64(binary.LittleEndian.Uint32(raw[4:])))
	}
	// The section counts the imported symbols too if the hash has nothing.
	if all, err := s.f.sections(); err == nil {
		for _, sec := range all {
			if sec.Type == elf.SHT_DYNSYM && sec.VAddr == s.Table.VAddr && sec.EntSize == SymSize {
				return s.checkCount(sec.Size / SymSize)
			}
		}
	}
	h, err := s.gnu()
	if err != nil {
		return 0, fmt.Errorf("number of dynamic symbols: %w", err)
	}
	n, err := h.count()
	if err != nil {
		return 0, fmt.Errorf("number of dynamic symbols: %w", err)
	}
	return s.checkCount(n)
}

func (s *Symbols) checkCount(n uint64) (int, error) {
	if n > maxSymbols || n*SymSize > s.Table.Size {
		return 0, fmt.Errorf("%d dynamic symbols do not fit in the %d bytes left of their segment: %w", n, s.Table.Size, ErrDamaged)
	}
	return int(n), nil
}

// Bytes reads all entries, Count times SymSize bytes.
func (s *Symbols) Bytes() ([]byte, error) {
	n, err := s.count()
	if err != nil {
		return nil, err
	}
	return s.Table.Slice(0, uint64(n)*SymSize)
}

// At reads entry i.
func (s *Symbols) At(i int) (RawSym, error) {
	if i < 0 || i > maxSymbols {
		return RawSym{}, fmt.Errorf("symbol %d: %w", i, ErrDamaged)
	}
	raw, err := s.Table.Slice(uint64(i)*SymSize, SymSize)
	if err != nil {
		return RawSym{}, fmt.Errorf("symbol %d: %w", i, err)
	}
	return ParseSym(raw), nil
}

// Name reads the name at offset off of the string table.
func (s *Symbols) Name(off uint32) (string, error) { return stringAt(s.Strings, uint64(off)) }

// Type is the kind of symbol: elf.STT_FUNC, elf.STT_OBJECT and so on.
func (s RawSym) Type() elf.SymType { return elf.ST_TYPE(s.Info) }

// Bind is elf.STB_LOCAL, elf.STB_GLOBAL and so on.
func (s RawSym) Bind() elf.SymBind { return elf.ST_BIND(s.Info) }

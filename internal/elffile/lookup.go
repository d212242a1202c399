package elffile

import (
	"bytes"
	"debug/elf"
	"slices"
	"sort"

	"github.com/ianlancetaylor/demangle"
)

// Symbol is a named address range of the file's own address space.
type Symbol struct {
	Name        string
	Value, Size uint64
	Func        bool
}

// ownSymbols is .symtab and the dynamic symbols of this one file. Package
// symbol knows more: separate debug files, symbols without a size, and how to
// find a name without reading everything.
type ownSymbols struct {
	syms []ownSymbol
	strs [][]byte
}

type ownSymbol struct {
	value, size uint64
	name        uint32
	table       uint8
	fn          bool
}

func (f *File) readOwnSymbols() *ownSymbols {
	o := &ownSymbols{}
	if s, err := f.StaticSymbols(); err == nil {
		o.add(s)
	}
	if s, err := f.DynamicSymbols(); err == nil {
		o.add(s)
	}
	slices.SortStableFunc(o.syms, func(a, b ownSymbol) int {
		switch {
		case a.value < b.value:
			return -1
		case a.value > b.value:
			return 1
		}
		return 0
	})
	return o
}

func (o *ownSymbols) add(s *Symbols) {
	tab, err := s.Bytes()
	if err != nil {
		return
	}
	strs, err := s.Strings.Bytes()
	if err != nil {
		return
	}
	o.strs = append(o.strs, strs)
	for ; len(tab) >= SymSize; tab = tab[SymSize:] {
		sym := ParseSym(tab)
		typ := sym.Type()
		if sym.Section == elf.SHN_UNDEF || sym.Value == 0 || sym.Size == 0 ||
			typ != elf.STT_FUNC && typ != elf.STT_OBJECT && typ != elf.STT_NOTYPE && typ != elf.STT_GNU_IFUNC {
			continue
		}
		o.syms = append(o.syms, ownSymbol{
			value: sym.Value, size: sym.Size, name: sym.Name,
			table: uint8(len(o.strs) - 1), fn: typ == elf.STT_FUNC || typ == elf.STT_GNU_IFUNC,
		})
	}
}

func (o *ownSymbols) symbol(e ownSymbol) Symbol {
	s := o.strs[e.table]
	if uint64(e.name) >= uint64(len(s)) {
		return Symbol{}
	}
	name := s[e.name:]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return Symbol{Name: string(name), Value: e.value, Size: e.size, Func: e.fn}
}

// Lookup returns the symbol of this file whose range holds the file's own
// address vaddr. Where several do, the best known name wins: one without
// leading underscores, then the shortest.
func (f *File) Lookup(vaddr uint64) (Symbol, bool) {
	o := f.symbols()
	i := sort.Search(len(o.syms), func(i int) bool { return o.syms[i].value > vaddr })
	var best Symbol
	var found bool
	for looked := 0; i > 0 && looked < 64; looked++ {
		i--
		e := o.syms[i]
		if found && e.value != best.Value {
			break
		}
		if vaddr-e.value >= e.size {
			continue
		}
		s := o.symbol(e)
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

// ByName returns the symbol of that name with the lowest address.
func (f *File) ByName(name string) (Symbol, bool) {
	o := f.symbols()
	for _, e := range o.syms {
		s := o.strs[e.table]
		end := uint64(e.name) + uint64(len(name))
		if end < uint64(len(s)) && s[end] == 0 && string(s[e.name:end]) == name {
			return o.symbol(e), true
		}
	}
	return Symbol{}, false
}

// Demangle turns the mangled name of a C++ or Rust function into what its
// author wrote, without parameters; other names are returned as they are.
func Demangle(name string) string {
	return demangle.Filter(name, demangle.NoParams, demangle.NoTemplateParams)
}

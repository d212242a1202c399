package symbol

import (
	"debug/elf"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"forkproof/internal/elffile"
)

// layer is one symbol table with an index by address, made on first use.
type layer struct {
	source Source
	file   *elffile.File // that syms belongs to: the debug file, not the program
	syms   *elffile.Symbols
	note   func(error)

	load func() *loaded
	strs func() []byte // all names; only a search by name needs them
}

// loaded is the table in memory: the entries as the file has them, and an index
// of those that name an address. Names are read when they are asked for.
type loaded struct {
	raw   []byte
	index []entry // ascending by value; of equal values in the order of the table
	files []fileMark
}

type entry struct {
	value uint64
	// reach is the highest address at which this symbol or one before it in the
	// index ends.
	reach uint64
	sym   uint32
}

// fileMark says that the local symbols from sym on are of the named file.
type fileMark struct{ sym, name uint32 }

func newLayer(source Source, file *elffile.File, syms *elffile.Symbols, note func(error)) *layer {
	l := &layer{source: source, file: file, syms: syms, note: note}
	l.load = sync.OnceValue(l.readIndex)
	l.strs = sync.OnceValue(l.readStrings)
	return l
}

func (l *layer) readIndex() *loaded {
	raw, err := l.syms.Bytes()
	if err != nil {
		l.note(fmt.Errorf("%v: %w", l.source, err))
		return &loaded{}
	}
	n := len(raw) / elffile.SymSize
	d := &loaded{raw: raw, index: make([]entry, 0, n)}
	for i := range n {
		s := elffile.ParseSym(raw[i*elffile.SymSize:])
		if s.Type() == elf.STT_FILE {
			d.files = append(d.files, fileMark{uint32(i), s.Name})
			continue
		}
		if k, ok := kindOf(s); ok && k != TLS && s.Name != 0 {
			end := s.Value + s.Size
			if end < s.Value {
				end = s.Value // the size is nonsense
			}
			d.index = append(d.index, entry{s.Value, end, uint32(i)})
		}
	}
	d.index = sortByValue(d.index)
	var most uint64
	for i := range d.index {
		most = max(most, d.index[i].reach)
		d.index[i].reach = most
	}
	return d
}

func (l *layer) readStrings() []byte {
	b, err := l.syms.Strings.Bytes()
	if err != nil {
		l.note(fmt.Errorf("names of %v: %w", l.source, err))
	}
	return b
}

func (d *loaded) at(i int) elffile.RawSym { return elffile.ParseSym(d.raw[i*elffile.SymSize:]) }

// sortByValue sorts by value, keeping the order of equal ones. It goes digit by
// digit: a table of a large library has 100,000 entries, and comparing them
// would take the larger part of the time to index it. It may return a slice
// other than a.
func sortByValue(a []entry) []entry {
	if len(a) < 2 {
		return a
	}
	var differ uint64
	for _, e := range a {
		differ |= e.value ^ a[0].value
	}
	const bits = 11
	const mask = 1<<bits - 1
	var b []entry
	for shift := 0; shift < 64 && differ>>shift != 0; shift += bits {
		if differ>>shift&mask == 0 {
			continue
		}
		var next [mask + 1]int
		for _, e := range a {
			next[e.value>>shift&mask]++
		}
		sum := 0
		for i, n := range next {
			next[i] = sum
			sum += n
		}
		if b == nil {
			b = make([]entry, len(a))
		}
		for _, e := range a {
			digit := e.value >> shift & mask
			b[next[digit]] = e
			next[digit]++
		}
		a, b = b, a
	}
	return a
}

// maxSteps bounds how many symbols before an address are looked at. Symbols do
// not nest deeply, and places with hundreds of names are not known.
const maxSteps = 4096

// candidate is a possible answer, with its index in the table.
type candidate struct {
	Sym
	index int
}

// choice is the best candidate so far.
type choice struct {
	candidate
	ok bool
}

func (c *choice) offer(n candidate) {
	if !c.ok || n.betterThan(c.Sym) {
		c.candidate, c.ok = n, true
	}
}

// lookup finds the symbol whose range holds vaddr and begins last; failing that
// the last one without a size.
func (l *layer) lookup(vaddr uint64) (Sym, bool) {
	d := l.load()
	i := sort.Search(len(d.index), func(i int) bool { return d.index[i].value > vaddr })
	var best, open choice
	// nearest is the value of the last symbol before vaddr, once one was seen:
	// only there a symbol without a size can count.
	var nearest uint64
	seen := false
	var ended uint64 // where the last symbol with a size before vaddr ends
	if i > 0 {
		ended = d.index[i-1].reach
	}
	for steps := 0; i > 0 && steps < maxSteps; steps++ {
		i--
		e := d.index[i]
		if best.ok && e.value != best.Value || seen && e.value != nearest && e.reach <= vaddr {
			break
		}
		raw := d.at(int(e.sym))
		covers := vaddr-e.value < raw.Size
		if !covers && seen && e.value != nearest {
			continue
		}
		name, err := l.name(raw)
		if err != nil {
			l.note(err)
			continue
		}
		if raw.Size == 0 && isMarker(name) {
			continue
		}
		c := candidate{l.sym(raw, name), int(e.sym)}
		if covers {
			best.offer(c)
			continue
		}
		nearest, seen = e.value, true
		if raw.Size == 0 && l.sameSection(raw, vaddr) {
			c.NoSize = true
			open.offer(c)
		}
	}
	switch {
	case best.ok:
		return l.withFile(best.candidate), true
	case open.ok && ended <= open.Value:
		// Else it is a label within a function that ends before vaddr.
		return l.withFile(open.candidate), true
	}
	return Sym{}, false
}

// startsWithin says whether a symbol begins after from and at or before to.
func (l *layer) startsWithin(from, to uint64) bool {
	d := l.load()
	i := sort.Search(len(d.index), func(i int) bool { return d.index[i].value > from })
	for steps := 0; i < len(d.index) && d.index[i].value <= to && steps < maxSteps; steps++ {
		raw := d.at(int(d.index[i].sym))
		if name, err := l.name(raw); err == nil && (raw.Size != 0 || !isMarker(name)) {
			return true
		}
		i++
	}
	return false
}

// isMarker tells names that tools put into code and that name no thing: the
// mapping symbols of AArch64 ($x code, $d data, "ELF for the Arm 64-bit
// Architecture", 5.5.4), local labels, and the marks of the annobin plugin.
func isMarker(name string) bool {
	return strings.HasPrefix(name, "$") || strings.HasPrefix(name, ".L") || strings.HasPrefix(name, ".annobin")
}

// sameSection says whether vaddr lies in the section of s, and where there are
// no sections in its segment: a symbol without a size does not reach further.
func (l *layer) sameSection(s elffile.RawSym, vaddr uint64) bool {
	all, err := l.file.Sections()
	if err == nil && int(s.Section) < len(all) {
		sec := all[s.Section]
		return s.Value >= sec.VAddr && vaddr >= sec.VAddr && vaddr-sec.VAddr < sec.Size
	}
	for _, seg := range l.file.Segments {
		if seg.Type == elf.PT_LOAD && s.Value >= seg.VAddr && vaddr >= seg.VAddr && vaddr-seg.VAddr < seg.MemSize && s.Value-seg.VAddr < seg.MemSize {
			return true
		}
	}
	return false
}

// sym makes a Sym of an entry, without its File.
func (l *layer) sym(raw elffile.RawSym, name string) Sym {
	kind, _ := kindOf(raw)
	return Sym{
		Name: name, Value: raw.Value, Size: raw.Size, Kind: kind,
		Local:  raw.Bind() == elf.STB_LOCAL,
		IFunc:  raw.Type() == elf.STT_GNU_IFUNC,
		Source: l.source,
	}
}

func (l *layer) name(raw elffile.RawSym) (string, error) {
	name, err := l.syms.Name(raw.Name)
	if err != nil {
		return "", fmt.Errorf("name of a symbol in %v: %w", l.source, err)
	}
	return withoutVersion(name), nil
}

// withFile adds the source file of a local symbol: linkers put the local
// symbols of each file after one of type STT_FILE with its name.
func (l *layer) withFile(c candidate) Sym {
	if !c.Local {
		return c.Sym
	}
	files := l.load().files
	i := sort.Search(len(files), func(i int) bool { return int(files[i].sym) > c.index })
	if i > 0 && files[i-1].name != 0 {
		name, err := l.syms.Name(files[i-1].name)
		l.note(err)
		c.File = name
	}
	return c.Sym
}

// byName finds the symbols called name, exported ones before local ones and
// default versions before others.
func (l *layer) byName(name string) []Sym {
	d, strs := l.load(), l.strs()
	var found [4][]Sym // by rank
	for i := range len(d.raw) / elffile.SymSize {
		raw := d.at(i)
		rest := uint64(raw.Name) + uint64(len(name))
		if rest >= uint64(len(strs)) || strs[raw.Name] != name[0] || strs[rest] != 0 && strs[rest] != '@' || string(strs[raw.Name:rest]) != name {
			continue
		}
		if _, ok := kindOf(raw); !ok {
			continue
		}
		rank := 0
		if raw.Bind() == elf.STB_LOCAL {
			rank = 2
		}
		if strs[rest] == '@' && (rest+1 >= uint64(len(strs)) || strs[rest+1] != '@') {
			rank++ // name@VERSION is an old version, name@@VERSION the default
		}
		found[rank] = append(found[rank], l.withFile(candidate{l.sym(raw, name), i}))
	}
	return slices.Concat(found[:]...)
}

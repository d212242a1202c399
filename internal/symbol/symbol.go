// Package symbol turns addresses of an ELF file into names and names into
// addresses. It knows the file's own symbol tables, separate debug files and
// the compressed mini debug information that some distributions ship, and reads
// no more of them than a question needs: an exported name costs a few small
// reads, and only the first address or private name makes it read a whole
// table.
package symbol

import (
	"debug/elf"
	"errors"
	"fmt"
	"sync"

	"forkproof/internal/elffile"
)

// Kind is what a symbol names.
type Kind uint8

// The kinds of symbols.
const (
	// Label is a place of unknown nature, from assembly or the linker.
	Label Kind = iota
	Func
	Object
	// TLS is a thread-local variable, found by name only: its Value is an offset
	// in the file's thread-local storage, no address.
	TLS
)

func (k Kind) String() string {
	switch k {
	case Label:
		return "label"
	case Func:
		return "function"
	case Object:
		return "object"
	case TLS:
		return "thread-local"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Source is where a symbol was found.
type Source uint8

// The sources, most complete first.
const (
	// SymTab is the file's own .symtab.
	SymTab Source = iota + 1
	// DebugFile is the .symtab of a separate debug file.
	DebugFile
	// MiniDebug is .gnu_debugdata.
	MiniDebug
	// DynSym is the table of exported symbols.
	DynSym
)

func (s Source) String() string {
	switch s {
	case SymTab:
		return ".symtab"
	case DebugFile:
		return "separate debug file"
	case MiniDebug:
		return ".gnu_debugdata"
	case DynSym:
		return ".dynsym"
	}
	return fmt.Sprintf("source(%d)", uint8(s))
}

// Sym is one symbol. Addresses are virtual addresses of the file: add the load
// bias for those of a process.
type Sym struct {
	// Name as the file has it (mangled), without a symbol version.
	Name string
	// Value is the first address, Size the number of bytes, 0 where the file
	// does not say.
	Value, Size uint64
	Kind        Kind
	// Local: not visible outside of its compilation unit or library.
	Local bool
	// File is the source file of a local symbol, such as "random.c"; "" where
	// the table does not say.
	File string
	// NoSize marks an answer of Lookup that rests on a symbol without a size:
	// the address comes after it and before any other symbol of its section,
	// which is likely but not certain to make it part of it.
	NoSize bool
	// IFunc: Value is not the function but the code that chooses which
	// implementation the name stands for.
	IFunc  bool
	Source Source
}

// String is the name, with its source file where that is known: private names
// like "lock" are used by many files of one library.
func (s Sym) String() string {
	if s.File == "" {
		return s.Name
	}
	return s.Name + " (" + s.File + ")"
}

// Options say where separate debug files may be.
type Options struct {
	// Root is the folder that holds the target's file system, such as
	// /proc/PID/root; "" means "/". Symbolic links never lead out of it.
	Root string
	// Path is the path of the ELF file within Root, for debug files that lie
	// beside it. "" means that it is not known.
	Path string
	// NoDebugFiles: do not look for separate debug files.
	NoDebugFiles bool
}

// Table is all symbols of one ELF file. It can be used by many goroutines at a
// time.
type Table struct {
	file *elffile.File
	opts Options

	dynamic func() *layer   // nil where there is none
	layers  func() []*layer // most complete first, the dynamic one last

	mu    sync.Mutex
	named map[string]named // answers of ByName that needed a whole table
	errs  []error
	close func() error
}

type named struct {
	sym Sym
	ok  bool
}

// maxNamed bounds the remembered answers of ByName.
const maxNamed = 4096

// New gives the symbols of file, which must stay open as long as the Table is
// used. Nothing is read yet.
func New(file *elffile.File, opts Options) *Table {
	t := &Table{file: file, opts: opts, named: map[string]named{}}
	t.dynamic = sync.OnceValue(t.openDynamic)
	t.layers = sync.OnceValue(t.openLayers)
	return t
}

// Close closes the separate debug file, if one was opened. The Table must not
// be used afterwards.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.close == nil {
		return nil
	}
	err := t.close()
	t.close = nil
	return err
}

// Err says what could not be read so far: a damaged table, a debug file that
// belongs to another build. An address or a name that was not found may be due
// to that. nil means that all that is there was read, which may be nothing.
func (t *Table) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.errs...)
}

// note keeps an error for Err. That something is not there is none.
func (t *Table) note(err error) {
	if err == nil || errors.Is(err, elffile.ErrAbsent) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.errs) < 16 {
		t.errs = append(t.errs, err)
	}
}

// Sources lists what the symbols come from, most complete first.
func (t *Table) Sources() []Source {
	var all []Source
	for _, l := range t.layers() {
		all = append(all, l.source)
	}
	return all
}

func (t *Table) openDynamic() *layer {
	syms, err := t.file.DynamicSymbols()
	if err != nil {
		t.note(err)
		return nil
	}
	return newLayer(DynSym, t.file, syms, t.note)
}

func (t *Table) openLayers() []*layer {
	var all []*layer
	if l := t.openFull(); l != nil {
		all = append(all, l)
	}
	if l := t.dynamic(); l != nil {
		all = append(all, l)
	}
	return all
}

// openFull is the best table with private symbols that can be had.
func (t *Table) openFull() *layer {
	syms, err := t.file.StaticSymbols()
	if err == nil {
		return newLayer(SymTab, t.file, syms, t.note)
	}
	t.note(err)
	if !t.opts.NoDebugFiles {
		debug, closer, err := findDebugFile(t.file, t.opts)
		if err == nil {
			t.mu.Lock()
			t.close = closer
			t.mu.Unlock()
			if syms, err = debug.StaticSymbols(); err == nil {
				return newLayer(DebugFile, debug, syms, t.note)
			}
		}
		t.note(err)
	}
	mini, err := miniDebugInfo(t.file)
	if err == nil {
		if syms, err = mini.StaticSymbols(); err == nil {
			return newLayer(MiniDebug, mini, syms, t.note)
		}
	}
	t.note(err)
	return nil
}

// Lookup names the symbol that covers the virtual address vaddr. An address
// beyond the size of the symbol before it has no name. Symbols without a size
// are taken to reach to the next one, and the answer is marked NoSize; one with
// a size is preferred. Of several names for one place the best known is chosen:
// pthread_mutex_lock rather than __pthread_mutex_lock.
func (t *Table) Lookup(vaddr uint64) (Sym, bool) {
	var open Sym
	found := false
	for _, l := range t.layers() {
		s, ok := l.lookup(vaddr)
		if !ok {
			continue
		}
		if !s.NoSize {
			return s, true
		}
		if !found || s.Value > open.Value {
			open, found = s, true
		}
	}
	if !found {
		return Sym{}, false
	}
	// A symbol of another table may begin in between: that ends the reach of
	// one without a size.
	for _, l := range t.layers() {
		if l.startsWithin(open.Value, vaddr) {
			return Sym{}, false
		}
	}
	return open, true
}

// ByName finds a symbol by its exact (mangled) name: an exported one through
// the hash table of the file, any other by reading the whole table once. Where
// several have the name, an exported one is preferred to a local one, then the
// default version, then the first; see [Table.AllByName].
func (t *Table) ByName(name string) (Sym, bool) {
	if name == "" {
		return Sym{}, false
	}
	if l := t.dynamic(); l != nil {
		if _, raw, ok, err := l.syms.Find(name); err == nil && ok {
			return l.sym(raw, name), true
		} else if err != nil {
			t.note(err)
		}
	}
	t.mu.Lock()
	got, ok := t.named[name]
	t.mu.Unlock()
	if ok {
		return got.sym, got.ok
	}
	for _, l := range t.layers() {
		if all := l.byName(name); len(all) > 0 {
			got = named{all[0], true}
			break
		}
	}
	t.mu.Lock()
	if len(t.named) < maxNamed {
		t.named[name] = got
	}
	t.mu.Unlock()
	return got.sym, got.ok
}

// AllByName finds all symbols with that name, such as the private variables
// called "lock" of many source files, in the order of the most complete table.
func (t *Table) AllByName(name string) []Sym {
	if name == "" {
		return nil
	}
	var all []Sym
	for _, l := range t.layers() {
		for _, s := range l.byName(name) {
			known := false
			for _, old := range all {
				known = known || old.Value == s.Value && old.Kind == s.Kind
			}
			if !known {
				all = append(all, s)
			}
		}
	}
	return all
}

// kindOf is the Kind of a symbol; ok is false for one that names no place:
// imported, absolute, a section or a source file.
func kindOf(s elffile.RawSym) (k Kind, ok bool) {
	if s.Section == elf.SHN_UNDEF || s.Section == elf.SHN_ABS || s.Section == elf.SHN_COMMON {
		return 0, false
	}
	switch s.Type() {
	case elf.STT_FUNC, elf.STT_GNU_IFUNC:
		return Func, true
	case elf.STT_OBJECT:
		return Object, true
	case elf.STT_NOTYPE:
		return Label, true
	case elf.STT_TLS:
		return TLS, true
	}
	return 0, false
}

package unwind

import (
	"debug/elf"
	"errors"
	"sort"
	"sync"

	"forkproof/internal/cfi"
	"forkproof/internal/elffile"
	"forkproof/internal/proc"
	"forkproof/internal/symbol"
)

// Space is the code of one process.
type Space interface {
	// Find returns what is mapped executable at pc, false where nothing is.
	Find(pc uint64) (*Module, bool)
}

// Module is one mapping of a file in a process, and what the file tells.
type Module struct {
	// Object is the data of the mapped file, which processes share. For memory
	// without a file (code made at run time), and for one that could not be
	// read, it is empty but for Err.
	*Object
	// Name is the path of the mapped file in the process's mount namespace, a
	// name in brackets such as [vdso], or empty.
	Name string
	// Start and End bound the mapping, in the process.
	Start, End uint64
	// Bias is what to add (modulo 2^64) to an address of the file to get that
	// of the process.
	Bias uint64
}

// Symbol names the address addr of the process; see [Frame.Addr] for that of a
// frame. It may be asked of a nil Module.
func (m *Module) Symbol(addr uint64) (symbol.Sym, bool) {
	if m == nil || m.Object == nil || m.Table == nil {
		return symbol.Sym{}, false
	}
	return m.Table.Lookup(addr - m.Bias)
}

// Object is what was read of one file, the same for all processes that map it. It
// may be used by many goroutines at a time.
type Object struct {
	// File is the file itself, nil where there is none.
	File *elffile.File
	// Frames are its unwind tables, nil where it has none.
	Frames *cfi.Frames
	// Table are its symbols, nil only where File is.
	Table *symbol.Table
	// Err says why the file, or its unwind tables, could not be read.
	Err error

	close func() error
}

// Opened is a file that an Opener opened.
type Opened struct {
	File *elffile.File
	// Symbols say where separate debug files are looked for.
	Symbols symbol.Options
	// Private: the file is read from the memory of this one process, and not to
	// be shared with others that map the same.
	Private bool
	// Close, where not nil, ends the use of the file.
	Close func() error
}

// Opener opens the file that is mapped at m. How (by path, by map_files, out of
// the process's memory) is its own affair. It is asked for [vdso], too, which
// every process has: a copy of its pages serves all.
type Opener func(m proc.Mapping) (Opened, error)

type fileKey struct {
	major, minor uint32
	inode        uint64
	name         string // of what has no inode: [vdso]
}

// Files keeps what was read of files, by device and inode, so that the processes
// of a server share it. A file whose inode number was given to another one while
// no process mapped it would be confused with that: do not keep a Files longer
// than the processes live. It may be used by many goroutines.
type Files struct {
	mu   sync.Mutex
	open map[fileKey]*entry
}

type entry struct {
	once sync.Once
	obj  *Object
}

// NewFiles returns an empty Files.
func NewFiles() *Files { return &Files{open: make(map[fileKey]*entry)} }

// Close closes all files.
func (f *Files) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for k, e := range f.open {
		if e.obj != nil {
			errs = append(errs, e.obj.shut())
		}
		delete(f.open, k)
	}
	return errors.Join(errs...)
}

func (o *Object) shut() error {
	var err error
	if o.Table != nil {
		err = o.Table.Close()
	}
	if o.close != nil {
		err = errors.Join(err, o.close())
	}
	return err
}

// get returns the data of the file mapped at m; private files go to own.
func (f *Files) get(m proc.Mapping, open Opener, own *entry) *Object {
	key := fileKey{m.Major, m.Minor, m.Inode, ""}
	if m.Inode == 0 {
		key.name = m.Path
	}
	f.mu.Lock()
	e := f.open[key]
	if e == nil {
		e = &entry{}
		f.open[key] = e
	}
	f.mu.Unlock()
	var private *Object
	e.once.Do(func() {
		o, err := open(m)
		obj := object(o, err)
		if o.Private {
			private = obj
			return
		}
		e.obj = obj
	})
	if e.obj != nil {
		return e.obj
	}
	// Some process has this file to itself; so does this one.
	own.once.Do(func() {
		if own.obj = private; own.obj == nil {
			own.obj = object(open(m))
		}
	})
	return own.obj
}

func object(o Opened, err error) *Object {
	if err == nil && o.File == nil {
		err = errors.New("not opened")
	}
	if err != nil {
		return &Object{Err: err}
	}
	obj := &Object{File: o.File, close: o.Close, Table: symbol.New(o.File, o.Symbols)}
	if obj.Frames, err = Tables(o.File); err != nil {
		obj.Frames, obj.Err = nil, err
	}
	return obj
}

// Tables are the unwind tables of f, nil where it has none.
func Tables(f *elffile.File) (*cfi.Frames, error) {
	src := cfi.Source{Arch: cfi.AMD64}
	if f.Machine() == elf.EM_AARCH64 {
		src.Arch = cfi.ARM64
	}
	eh, err := f.EHFrame()
	if err != nil && !errors.Is(err, elffile.ErrAbsent) {
		return nil, err
	}
	src.EHFrameHdr, src.EHFrame = section(eh.Hdr), section(eh.Frame)
	// A program with .eh_frame has no more to tell in .debug_frame; those that
	// have only that (Go's linker writes it) are worth the section headers.
	if src.EHFrame.Size == 0 {
		if d, err := f.DebugFrame(); err == nil {
			src.DebugFrame = section(d)
		}
	}
	if src.EHFrame.Size == 0 && src.DebugFrame.Size == 0 {
		return nil, nil
	}
	return cfi.New(src)
}

func section(d elffile.Data) cfi.Section {
	if d.Size == 0 {
		return cfi.Section{}
	}
	return cfi.Section{R: d, Addr: d.VAddr, Size: d.Size}
}

// ProcessSpace is a Space made of the mappings of a process.
type ProcessSpace struct {
	maps  []proc.Mapping // ascending
	exec  []int          // indexes of executable ones
	files *Files
	open  Opener

	mu   sync.Mutex
	mods map[int]*Module // by index of mapping
	own  map[fileKey]*entry
}

// NewSpace returns the code of a process with these mappings, in ascending order.
// Files are opened when an address in them is first asked for, by open, and kept
// in files, which may be shared between processes. The space may be used by many
// goroutines.
func NewSpace(maps []proc.Mapping, files *Files, open Opener) *ProcessSpace {
	s := &ProcessSpace{
		maps: maps, files: files, open: open,
		mods: make(map[int]*Module), own: make(map[fileKey]*entry),
	}
	for i, m := range maps {
		if m.Exec {
			s.exec = append(s.exec, i)
		}
	}
	return s
}

// Close closes the files that the process has to itself.
func (s *ProcessSpace) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for k, e := range s.own {
		if e.obj != nil {
			errs = append(errs, e.obj.shut())
		}
		delete(s.own, k)
	}
	return errors.Join(errs...)
}

// Maps returns the mappings that the space was made of.
func (s *ProcessSpace) Maps() []proc.Mapping { return s.maps }

// Find implements Space.
func (s *ProcessSpace) Find(pc uint64) (*Module, bool) {
	i := sort.Search(len(s.exec), func(i int) bool { return s.maps[s.exec[i]].End > pc })
	if i == len(s.exec) || pc < s.maps[s.exec[i]].Start {
		return nil, false
	}
	return s.module(s.exec[i]), true
}

// ModuleAt returns the module of any mapping of a file, executable or not: that
// of a variable, say. It is false where no file is mapped, or one that cannot be
// read.
func (s *ProcessSpace) ModuleAt(addr uint64) (*Module, bool) {
	i := sort.Search(len(s.maps), func(i int) bool { return s.maps[i].End > addr })
	if i == len(s.maps) || addr < s.maps[i].Start || s.maps[i].Path == "" {
		return nil, false
	}
	m := s.module(i)
	return m, m.File != nil
}

// Missing lists the files that could not be read so far, with the reason.
func (s *ProcessSpace) Missing() map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]error)
	for _, m := range s.mods {
		if m.Err != nil {
			out[m.Name] = m.Err
		}
	}
	return out
}

func (s *ProcessSpace) module(i int) *Module {
	s.mu.Lock()
	mod, m := s.mods[i], s.maps[i]
	s.mu.Unlock()
	if mod != nil {
		return mod
	}
	mod = &Module{Object: &Object{}, Name: m.Path, Start: m.Start, End: m.End}
	// Of the names in brackets only the vdso is a file in a way.
	if m.Path != "" && (m.Inode != 0 || m.Path == "[vdso]") {
		s.attach(mod, i)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.mods[i]; first != nil {
		return first
	}
	s.mods[i] = mod
	return mod
}

// attach gives mod the data of its file, and its place.
func (s *ProcessSpace) attach(mod *Module, i int) {
	m := s.maps[i]
	key := fileKey{m.Major, m.Minor, m.Inode, ""}
	s.mu.Lock()
	own := s.own[key]
	if own == nil {
		own = &entry{}
		s.own[key] = own
	}
	s.mu.Unlock()
	obj := s.files.get(m, s.open, own)
	if obj.File == nil {
		mod.Object = obj
		return
	}
	bias, err := obj.File.BiasOf(s.loading(i))
	if err != nil {
		// Tables at an unknown place are worse than none.
		mod.Object = &Object{Err: err}
		return
	}
	mod.Object, mod.Bias = obj, bias
}

// loading returns the mappings that belong to the same loading of a file as
// mapping i: neighbours of the same file, whose offsets do not start again.
func (s *ProcessSpace) loading(i int) []elffile.Mapping {
	same := func(m proc.Mapping) bool {
		x := s.maps[i]
		return m.Inode == x.Inode && m.Major == x.Major && m.Minor == x.Minor && m.Path == x.Path
	}
	// Memory without a file lies between: zeroed pages, guards.
	first := i
	for j := i - 1; j >= 0 && (same(s.maps[j]) || s.maps[j].Path == ""); j-- {
		if !same(s.maps[j]) {
			continue
		}
		if s.maps[j].Offset > s.maps[first].Offset {
			break
		}
		first = j
	}
	var out []elffile.Mapping
	for j := first; j < len(s.maps) && (same(s.maps[j]) || s.maps[j].Path == ""); j++ {
		m := s.maps[j]
		if !same(m) {
			continue
		}
		if len(out) > 0 && m.Offset < out[len(out)-1].Offset {
			break
		}
		out = append(out, elffile.Mapping{Start: m.Start, End: m.End, Offset: m.Offset, Exec: m.Exec})
	}
	return out
}

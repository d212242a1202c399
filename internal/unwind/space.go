// Package unwind walks the stack of one thread of another process without
// stopping it: from the stack pointer and program counter that the kernel shows
// for a thread that sleeps in a system call, by the call frame information of
// the mapped files.
package unwind

import (
	"os"

	"forkproof/internal/cfi"
	"forkproof/internal/elffile"
	"forkproof/internal/proc"
)

// Object is the data of one mapped file, shared by all processes that map it.
type Object struct {
	Name   string
	File   *elffile.File
	Frames *cfi.Frames // nil where the file has none
	// Missing says why the file could not be read, and is nil otherwise.
	Missing error
	close   func() error
}

// Module is an Object at its place in one process.
type Module struct {
	*Object
	Bias uint64
	Path string
	// Start and End bound the executable mapping.
	Start, End uint64
}

type fileKey struct {
	major, minor uint32
	inode        uint64
}

// Files keeps what was read of files, so that the two processes of a proof, and
// all workers of a server, share it. It is not safe for concurrent use.
type Files struct {
	byKey map[fileKey]*Object
}

// NewFiles returns an empty cache.
func NewFiles() *Files { return &Files{byKey: make(map[fileKey]*Object)} }

// Close closes the files.
func (f *Files) Close() {
	for _, o := range f.byKey {
		if o.close != nil {
			_ = o.close()
		}
	}
}

func (f *Files) object(fs proc.FS, pid int, m proc.Mapping) *Object {
	k := fileKey{m.Major, m.Minor, m.Inode}
	if o, ok := f.byKey[k]; ok {
		return o
	}
	o := &Object{Name: m.Name()}
	f.byKey[k] = o
	var file *os.File
	if file, o.Missing = fs.OpenMapped(pid, m); o.Missing != nil {
		return o
	}
	o.close = file.Close
	if o.File, o.Missing = elffile.Open(file); o.Missing != nil {
		return o
	}
	if hdr, size, ok := o.File.EHFrameHdr(); ok {
		// A file without readable tables is walked by search.
		o.Frames, _ = cfi.Open(o.File, hdr, size)
	}
	return o
}

// Space is the executable memory of one process.
type Space struct {
	fs      proc.FS
	pid     int
	maps    []proc.Mapping
	files   *Files
	modules map[uint64]*Module
}

// NewSpace returns the executable memory of a process with these mappings.
func NewSpace(fs proc.FS, pid int, maps []proc.Mapping, files *Files) *Space {
	return &Space{fs: fs, pid: pid, maps: maps, files: files, modules: make(map[uint64]*Module)}
}

// Maps returns the mappings the space was made of.
func (s *Space) Maps() []proc.Mapping { return s.maps }

// Executable reports whether code may lie at addr.
func (s *Space) Executable(addr uint64) bool {
	m, ok := proc.Find(s.maps, addr)
	return ok && m.Exec
}

// Find returns the module whose code holds pc.
func (s *Space) Find(pc uint64) (*Module, bool) {
	m, ok := proc.Find(s.maps, pc)
	if !ok || !m.Exec || !m.File() {
		return nil, false
	}
	return s.module(m)
}

// ModuleAt returns the module of any mapping of a file.
func (s *Space) ModuleAt(addr uint64) (*Module, bool) {
	m, ok := proc.Find(s.maps, addr)
	if !ok || !m.File() {
		return nil, false
	}
	return s.module(m)
}

func (s *Space) module(m proc.Mapping) (*Module, bool) {
	if mod, ok := s.modules[m.Start]; ok {
		return mod, mod.File != nil
	}
	mod := &Module{Object: s.files.object(s.fs, s.pid, m), Path: m.Path, Start: m.Start, End: m.End}
	s.modules[m.Start] = mod
	if mod.File == nil {
		return mod, false
	}
	bias, ok := mod.File.Bias(m.Start, m.Offset)
	if !ok {
		return mod, false
	}
	mod.Bias = bias
	return mod, true
}

// Missing lists the mapped files of executable memory that could not be read so
// far, with the reason.
func (s *Space) Missing() map[string]error {
	out := make(map[string]error)
	for _, m := range s.modules {
		if m.Object.Missing != nil {
			out[m.Path] = m.Object.Missing
		}
	}
	return out
}

// Symbol names an address: the function, its start in the process, and whether
// a symbol covers it. Unwind tables guard against symbols that merely lie
// before it.
func (m *Module) Symbol(pc uint64) (elffile.Symbol, bool) {
	if m == nil || m.File == nil {
		return elffile.Symbol{}, false
	}
	return m.File.Lookup(pc - m.Bias)
}

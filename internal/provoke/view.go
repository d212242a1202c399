package provoke

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"forkproof/internal/cpython"
	"forkproof/internal/elffile"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
	"forkproof/internal/pylock"
	"forkproof/internal/symbol"
	"forkproof/internal/unwind"
)

// view is what is mapped in a process, and what can be read of it by name.
type view struct {
	pid   int
	fs    proc.FS
	maps  []proc.Mapping
	space *unwind.ProcessSpace
	mem   *procmem.Memory
	// libc is the C library that the process runs on.
	libc libc.Identity
	rt   *cpython.Runtime
	heap *pylock.Heap
	gil  procmem.Range // the GIL with its mutexes
}

// maxVDSO bounds the kernel's own code in a process, which has some pages.
const maxVDSO = 256 << 10

// look reads what process pid has mapped now.
func look(fs proc.FS, files *unwind.Files, pid int) (*view, error) {
	v := &view{pid: pid, fs: fs, mem: procmem.Open(pid), libc: libc.Identity{Family: "unknown"}}
	var err error
	if v.maps, err = fs.Maps(pid); err != nil {
		return nil, err
	}
	v.space = unwind.NewSpace(v.maps, files, v.open)
	for _, m := range v.objects() {
		if family := libc.Named(m.Name()); family != "" {
			v.libc = libc.Identity{Family: family, Path: m.Path}
			if f, err := fs.OpenMapped(pid, m); err == nil {
				v.libc = libc.Read(family, m.Path, f)
				_ = f.Close() // it was only read
			}
		}
	}
	v.interpreter()
	return v, nil
}

// open opens the very file that the process has mapped.
func (v *view) open(m proc.Mapping) (unwind.Opened, error) {
	if m.Path == "[vdso]" {
		b := make([]byte, min(m.End-m.Start, maxVDSO))
		if _, err := v.mem.ReadAt(b, m.Start); err != nil {
			return unwind.Opened{}, err
		}
		e, err := elffile.Open(bytes.NewReader(b))
		return unwind.Opened{File: e}, err
	}
	f, err := v.fs.OpenMapped(v.pid, m)
	if err != nil {
		return unwind.Opened{}, err
	}
	e, err := elffile.Open(f)
	if err != nil {
		_ = f.Close() // the error that counts is the other
		return unwind.Opened{}, err
	}
	return unwind.Opened{File: e, Symbols: symbol.Options{Root: v.fs.Path(v.pid, "root"), Path: m.Path}, Close: f.Close}, nil
}

// objects are the first mappings of the files that hold code.
func (v *view) objects() []proc.Mapping {
	type file struct {
		major, minor uint32
		inode        uint64
	}
	code := make(map[file]bool)
	for _, m := range v.maps {
		if m.File() && m.Exec {
			code[file{m.Major, m.Minor, m.Inode}] = true
		}
	}
	var out []proc.Mapping
	for _, m := range v.maps {
		if k := (file{m.Major, m.Minor, m.Inode}); m.File() && code[k] {
			delete(code, k)
			out = append(out, m)
		}
	}
	return out
}

// module returns the file mapped at addr, with its tables.
func (v *view) module(addr uint64) (*unwind.Module, bool) {
	m, ok := v.space.ModuleAt(addr)
	return m, ok && m.Object != nil && m.File != nil
}

// holdsPython reports whether a file of this name may hold a Python runtime.
func holdsPython(name string) bool {
	return strings.HasPrefix(name, "python") || strings.HasPrefix(name, "libpython") || strings.HasPrefix(name, "uwsgi")
}

// holders are the modules in which the functions of a kind of lock are looked for:
// any other file's own function of that name is none of ours.
func (v *view) holders(python bool) []*unwind.Module {
	var out []*unwind.Module
	for _, m := range v.objects() {
		name := m.Name()
		fits := libc.Named(name) != "" || strings.HasPrefix(name, "libpthread")
		if python {
			fits = holdsPython(name)
		}
		if fits {
			if mod, ok := v.module(m.Start); ok {
				out = append(out, mod)
			}
		}
	}
	if len(out) == 0 && !python && len(v.maps) > 0 { // linked statically
		for _, m := range v.objects() {
			if mod, ok := v.module(m.Start); ok && m.Path == v.program() {
				out = append(out, mod)
			}
		}
	}
	return out
}

// program is the path of the program itself, empty where it cannot be told.
func (v *view) program() string {
	path, _, err := v.fs.Exe(v.pid)
	if err != nil {
		return ""
	}
	return path
}

// image adapts a module to what cpython.Find asks for.
type image struct{ m *unwind.Module }

func (i image) Symbol(name string) (addr, size uint64, ok bool) {
	s, ok := i.m.Table.ByName(name)
	return s.Value, s.Size, ok
}

func (i image) Section(name string) (addr, size uint64, ok bool) { return i.m.File.Section(name) }

// interpreter finds the Python runtime, where there is one that is known.
func (v *view) interpreter() {
	var objects []cpython.Object
	for _, mod := range v.holders(true) {
		objects = append(objects, cpython.Object{Path: mod.Name, Bias: mod.Bias, Image: image{mod}})
	}
	if len(objects) == 0 {
		return
	}
	rt, err := cpython.Find(v.mem, objects)
	if err != nil {
		return // locks of Python are then without names, and that is all
	}
	v.rt = rt
	if g, err := rt.GIL(); err == nil {
		v.gil = procmem.Range{Start: g.Addr, End: g.Addr + g.Size}
	}
}

// names opens the interpreter's objects anew: a heap is one look at one moment.
func (v *view) names() *pylock.Heap {
	if v.heap == nil && v.rt != nil {
		// A release that is not known has locks without names.
		v.heap, _ = pylock.Open(v.mem, v.rt, pylock.Limits{})
	}
	return v.heap
}

// python returns the interpreter's state of a thread that stands still: by its
// thread pointer where that is known, else by the id that it has in its namespace.
func (v *view) python(pointer uint64, inner int) (cpython.Thread, bool) {
	if v.rt == nil {
		return cpython.Thread{}, false
	}
	all, _ := v.rt.Threads() // as many as could be read
	for _, t := range all {
		if pointer != 0 && t.Ident == pointer || pointer == 0 && inner != 0 && t.NativeID == uint64(inner) {
			return t, true
		}
	}
	return cpython.Thread{}, false
}

// maxFrames bounds one native stack.
const maxFrames = 64

// stack returns the frames of a stopped thread.
func (v *view) stack(r *ptrace.Regs) []unwind.Frame {
	// A stack that cannot be followed to its end is shown as far as it goes.
	frames, _ := unwind.Stack(procmem.Cached(v.mem), v.space, unwind.FromPtrace(r), maxFrames)
	return frames
}

// describe writes a stack in the words of a report.
func (v *view) describe(frames []unwind.Frame, py cpython.Thread) ([]finding.NativeFrame, []finding.PythonFrame) {
	var native []finding.NativeFrame
	var functions []string
	for _, f := range frames {
		n := finding.NativeFrame{IP: finding.Addr(f.PC), Guessed: f.Guessed}
		name := ""
		if f.Module != nil {
			n.Object, n.Offset = filepath.Base(f.Module.Name), f.PC-f.Module.Bias
			if s, ok := f.Module.Symbol(f.Addr()); ok {
				name = s.Name
				n.Function, n.Offset = symbol.Demangle(s.Name), f.PC-f.Module.Bias-s.Value
			}
		}
		native, functions = append(native, n), append(functions, name)
	}
	eval, _ := cpython.Match(functions, py.Frames, py.Truncated)
	var python []finding.PythonFrame
	for i, f := range py.Frames {
		python = append(python, finding.PythonFrame{Function: f.Function, File: f.File, Line: f.Line, Native: eval[i]})
	}
	return native, python
}

// around returns the mapping of the file that addr is part of: variables without
// initial values lie behind the file's own pages, in anonymous memory.
func (v *view) around(addr uint64) (proc.Mapping, bool) {
	for i, m := range v.maps {
		if !m.Contains(addr) {
			continue
		}
		for k := i; k > 0 && !m.File() && m.Path == "" && v.maps[k-1].End == m.Start; k-- {
			m = v.maps[k-1]
		}
		return m, m.File()
	}
	return proc.Mapping{}, false
}

// static names an address in the data of a program or library; ok is false for
// any other. The name is the same in each run, and as far as there are symbols in
// each build.
func (v *view) static(addr uint64) (name string, ok bool) {
	m, ok := v.around(addr)
	if !ok {
		return "", false
	}
	mod, ok := v.module(m.Start)
	if !ok {
		return "", false
	}
	base := filepath.Base(m.Path)
	if known, ok := libc.KnownLock(mod.File.BuildID(), addr-mod.Bias); ok {
		return fmt.Sprintf("%s's %s", v.libc.Family, known), true
	}
	if s, ok := mod.Table.Lookup(addr - mod.Bias); ok && !s.NoSize {
		if d := addr - mod.Bias - s.Value; d != 0 {
			return fmt.Sprintf("%s`%s+%d", base, s.Name, d), true
		}
		return base + "`" + s.Name, true
	}
	return fmt.Sprintf("%s+0x%x", base, addr-mod.Bias), true
}

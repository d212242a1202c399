package trace

import (
	"bytes"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"forkproof/internal/cpython"
	"forkproof/internal/elffile"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/symbol"
	"forkproof/internal/unwind"
)

const arch = runtime.GOARCH

// maxFrames bounds one native stack.
const maxFrames = 256

// mu guards what the tracer's thread hands over.
var mu sync.Mutex

type libcKey struct {
	major, minor uint32
	inode        uint64
}

// image is a program in memory: what a process and the children that it forks
// have in common.
type image struct {
	looked bool
	rt     *cpython.Runtime
	mem    *moving
	// lists are where the C library may keep its fork handlers, found once.
	lists []uint64
}

// moving reads the memory of whichever process it was set to.
type moving struct{ pid int }

func (m *moving) ReadAt(p []byte, addr uint64) (int, error) {
	return procmem.Open(m.pid).ReadAt(p, addr)
}

// image returns that of a process.
func (j *job) image(pid int) *image {
	i := j.images[pid]
	if i == nil {
		i = &image{mem: &moving{pid}}
		j.images[pid] = i
	}
	return i
}

// view is the memory of one process at one moment.
type view struct {
	j     *job
	pid   int // whose files are opened
	maps  []proc.Mapping
	space *unwind.ProcessSpace
	libc  libc.Identity
	libcs []*unwind.Module // the C library and what belongs to it
}

// look reads the mappings of a process; files are opened through another one
// that has the same, and lives on.
func (j *job) view(pid, through int) (*view, error) {
	maps, err := j.fs.Maps(pid)
	if err != nil {
		return nil, err
	}
	v := &view{j: j, pid: through, maps: maps}
	v.space = unwind.NewSpace(maps, j.files, v.open)
	return v, nil
}

// maxVDSO bounds the kernel's own code in a process.
const maxVDSO = 256 << 10

func (v *view) open(m proc.Mapping) (unwind.Opened, error) {
	if m.Path == "[vdso]" {
		b := make([]byte, min(m.End-m.Start, maxVDSO))
		if _, err := procmem.Open(v.pid).ReadAt(b, m.Start); err != nil {
			return unwind.Opened{}, err
		}
		e, err := elffile.Open(bytes.NewReader(b))
		return unwind.Opened{File: e}, err
	}
	f, err := v.j.fs.OpenMapped(v.pid, m)
	if err != nil {
		return unwind.Opened{}, err
	}
	e, err := elffile.Open(f)
	if err != nil {
		_ = f.Close()
		return unwind.Opened{}, err
	}
	return unwind.Opened{File: e, Symbols: symbol.Options{Root: v.j.fs.Path(v.pid, "root"), Path: m.Path}, Close: f.Close}, nil
}

func (v *view) module(addr uint64) (*unwind.Module, bool) {
	m, ok := v.space.ModuleAt(addr)
	return m, ok && m.Object != nil && m.File != nil
}

// libraries finds the C library, and the files that belong to it.
func (v *view) libraries() {
	v.libc = libc.Identity{Family: "unknown"}
	seen := make(map[uint64]bool)
	for _, m := range v.maps {
		name := m.Name()
		if !m.File() || seen[m.Inode] || !libcPart(name) {
			continue
		}
		seen[m.Inode] = true
		mod, ok := v.module(m.Start)
		if !ok {
			continue
		}
		v.libcs = append(v.libcs, mod)
		family := libc.Named(name)
		if family == "" {
			continue
		}
		key := libcKey{m.Major, m.Minor, m.Inode}
		mu.Lock()
		id, ok := v.j.libcs[key]
		mu.Unlock()
		if !ok {
			id = libc.Identity{Family: family, Path: m.Path}
			if f, err := v.j.fs.OpenMapped(v.pid, m); err == nil {
				id = libc.Read(family, m.Path, f)
				_ = f.Close()
			}
			mu.Lock()
			v.j.libcs[key] = id
			mu.Unlock()
		}
		v.libc = id
	}
}

// libcPart reports whether a file is the C library or one that comes with it.
func libcPart(name string) bool {
	if libc.Named(name) != "" || libc.Loader(name) {
		return true
	}
	for _, p := range []string{"libpthread", "libresolv", "librt", "libnss_", "libnsl", "libanl"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// python finds the interpreter, once for each image.
func (v *view) python(i *image) *cpython.Runtime {
	if i.looked {
		return i.rt
	}
	i.looked = true
	var objects []cpython.Object
	seen := make(map[uint64]bool)
	for _, m := range v.maps {
		if !m.File() || seen[m.Inode] || !holdsPython(m.Name()) {
			continue
		}
		seen[m.Inode] = true
		if mod, ok := v.module(m.Start); ok {
			objects = append(objects, cpython.Object{Path: m.Path, Bias: mod.Bias, Image: elf{mod}})
		}
	}
	if len(objects) > 0 {
		i.rt, _ = cpython.Find(i.mem, objects)
	}
	return i.rt
}

func holdsPython(name string) bool {
	return strings.HasPrefix(name, "python") || strings.HasPrefix(name, "libpython") || strings.HasPrefix(name, "uwsgi")
}

// elf adapts a module to what cpython.Find asks for.
type elf struct{ m *unwind.Module }

func (e elf) Symbol(name string) (addr, size uint64, ok bool) {
	s, ok := e.m.Table.ByName(name)
	return s.Value, s.Size, ok
}

func (e elf) Section(name string) (addr, size uint64, ok bool) { return e.m.File.Section(name) }

// warm reads ahead of the first fork what will be needed for each: the tables of
// the files that are mapped.
func (j *job) warm(pid int) {
	v, err := j.view(pid, pid)
	if err != nil {
		return
	}
	v.libraries()
	v.python(&image{mem: &moving{pid}})
	tids, _ := j.fs.Threads(pid)
	for _, tid := range tids {
		if c, err := j.fs.Syscall(pid, tid); err == nil && !c.Running && c.SP != 0 {
			frames, _ := unwind.Stack(procmem.Open(pid), v.space, unwind.FromSyscall(c.SP, c.PC), maxFrames)
			v.frames(frames)
		}
	}
}

// warmth is how long after its start a program is read ahead: it has mapped
// most of what it will by then.
const warmth = 150 * time.Millisecond

// frames puts a stack into words.
func (v *view) frames(stack []unwind.Frame) []finding.NativeFrame {
	var out []finding.NativeFrame
	for _, f := range stack {
		n := finding.NativeFrame{IP: finding.Addr(f.PC), Guessed: f.Guessed}
		if f.Module != nil {
			n.Object = filepath.Base(f.Module.Name)
			n.Offset = f.PC - f.Module.Bias
			if s, ok := f.Module.Symbol(f.Addr()); ok {
				n.Function, n.Offset = symbol.Demangle(s.Name), f.PC-f.Module.Bias-s.Value
			}
		} else if m, ok := proc.Find(v.maps, f.PC); ok {
			n.Object, n.Offset = m.Name(), f.PC-m.Start
		}
		out = append(out, n)
	}
	return out
}

// place names an address by symbol, else by mapping.
func (v *view) place(addr uint64) string {
	at, m, ok := v.around(addr)
	if !ok {
		return finding.Addr(addr).String()
	}
	if at.File() {
		if mod, ok := v.module(at.Start); ok {
			base := filepath.Base(mod.Name)
			if s, ok := mod.Table.Lookup(addr - mod.Bias); ok && !s.NoSize {
				out := base + "`" + symbol.Demangle(s.Name)
				if d := addr - mod.Bias - s.Value; d != 0 {
					out += "+" + finding.Addr(d).String()
				}
				return out
			}
			return base + "+" + finding.Addr(addr-mod.Bias).String()
		}
	}
	name := m.Path
	if name == "" {
		name = "memory at " + finding.Addr(addr).String()
	}
	return name
}

// around returns the mapping of addr, and that of the file which it is part of:
// variables without initial values lie behind the file's own pages.
func (v *view) around(addr uint64) (file, m proc.Mapping, ok bool) {
	for i, m := range v.maps {
		if !m.Contains(addr) {
			continue
		}
		at := m
		for k := i; k > 0 && !at.File() && at.Path == "" && v.maps[k-1].End == at.Start; k-- {
			at = v.maps[k-1]
		}
		return at, m, true
	}
	return file, m, false
}

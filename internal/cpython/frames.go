package cpython

import (
	"fmt"

	"forkproof/internal/procmem"
)

// Owner says who keeps a frame.
type Owner uint8

// The owners of a frame. Before 3.11 all frames are objects.
const (
	OwnedByThread Owner = iota
	OwnedByGenerator
	OwnedByFrameObject
)

// String returns "thread", "generator" or "frame object".
func (o Owner) String() string {
	switch o {
	case OwnedByThread:
		return "thread"
	case OwnedByGenerator:
		return "generator"
	case OwnedByFrameObject:
		return "frame object"
	default:
		return fmt.Sprintf("owner %d", uint8(o))
	}
}

// Frame is a Python function being executed.
type Frame struct {
	// Function is the qualified name ("Pool.get") from 3.11 on, before that the
	// plain name ("get").
	Function string
	File     string // co_filename: as the module was found, or "<string>"
	// Line is the line being executed, counted from 1; 0 where the compiler gave
	// the instruction none.
	Line  int
	Addr  uint64 // of the PyFrameObject (until 3.10) or _PyInterpreterFrame
	Code  uint64 // of the code object
	Owner Owner
	// Entry is set for the outermost frame of those that one call of the C
	// function _PyEval_EvalFrameDefault executes: the next frame in the list
	// belongs to another call, further out on the C stack. Until 3.10 that is
	// every frame.
	Entry bool
}

// view is one look at memory: a cache that is thrown away with it, and the
// objects that were already read through it.
type view struct {
	mem   *procmem.Cache
	lay   *layout
	types map[uint64]string
	codes map[uint64]*code
	kept  int // bytes of codes
}

func (r *Runtime) newView() *view {
	return &view{mem: procmem.CachedObjects(r.mem), lay: &r.lay, types: make(map[uint64]string), codes: make(map[uint64]*code)}
}

// link is what makes a stack the same stack when it is read a second time.
type link struct {
	addr, code, instr uint64
	owner             uint8
	entry             bool
}

// stack fills Frames of t and returns all that it walked, shims included.
func (v *view) stack(t *Thread) []link {
	t.Frames, t.Truncated, t.Err = nil, false, nil
	var chain []link
	chain, t.Truncated, t.Err = v.walk(t.Addr)
	for _, k := range chain {
		if v.shim(k) {
			if n := len(t.Frames); n > 0 {
				t.Frames[n-1].Entry = true
			}
			continue
		}
		c, err := v.code(k.code)
		if err != nil {
			t.Err = fmt.Errorf("frame 0x%x: %w", k.addr, err)
			return chain
		}
		if v.trampoline(c, k) {
			continue
		}
		f := Frame{
			Function: c.name, File: c.file, Addr: k.addr, Code: k.code,
			Owner: Owner(k.owner), Entry: k.entry,
		}
		offset := int64(int32(k.instr)) * int64(v.lay.frame.instrUnit)
		if !v.lay.frame.object {
			offset = int64(k.instr - c.start)
		}
		if offset < -2 || offset > maxLineTable*16 {
			t.Err = fmt.Errorf("frame 0x%x executes an instruction outside of its code: %w", k.addr, ErrImplausible)
			return chain
		}
		if line, ok := lineAt(v.lay.code.kind, c.lines, c.firstLine, int(offset)); ok && line > 0 {
			f.Line = line
		}
		t.Frames = append(t.Frames, f)
	}
	return chain
}

// shim reports whether a frame stands for no Python function but for a C
// evaluation loop: FRAME_OWNED_BY_CSTACK in 3.12 and 3.13,
// FRAME_OWNED_BY_INTERPRETER and _CSTACK in 3.14.
func (v *view) shim(k link) bool {
	return v.lay.frame.shim > 0 && int(k.owner) >= v.lay.frame.shim
}

// trampoline reports whether a frame runs the few instructions that check what
// an inlined __init__ returned (_Py_InitCleanup, from 3.12). Its name and its
// file are both "__init__", and it never gets past its first traceable
// instruction, for which reason tracebacks leave it out.
func (v *view) trampoline(c *code, k link) bool {
	return v.lay.frame.firstTraceable != absent && c.file == "__init__" && c.name == "__init__" &&
		k.instr < c.start+2*uint64(c.traceable)
}

// walk follows the frames of a thread, without looking at their code.
func (v *view) walk(thread uint64) (chain []link, truncated bool, err error) {
	at, err := procmem.Uint64(v.mem, thread+uint64(v.lay.thread.frame))
	if err == nil && v.lay.cframe != absent {
		if at == 0 {
			return nil, false, nil
		}
		at, err = procmem.Uint64(v.mem, at+uint64(v.lay.cframe))
	}
	if err != nil {
		return nil, false, fmt.Errorf("find the newest frame of a thread: %w", err)
	}
	l := &v.lay.frame
	b := make(block, l.size)
	seen := make(map[uint64]struct{})
	shims := 0
	for at != 0 {
		if _, ok := seen[at]; ok {
			return chain, false, fmt.Errorf("frames form a ring at 0x%x: %w", at, ErrImplausible)
		}
		if len(chain)-shims >= maxFrames || shims > maxFrames {
			return chain, true, nil
		}
		seen[at] = struct{}{}
		if _, err := v.mem.ReadAt(b, at); err != nil {
			return chain, false, fmt.Errorf("read frame: %w", err)
		}
		k := link{addr: at, entry: l.object}
		k.code, _ = b.u64(l.code)
		k.code &^= l.tag
		k.owner, _ = b.u8(l.owner)
		if l.object {
			lasti, _ := b.i32(l.instr)
			k.instr = uint64(uint32(lasti))
		} else {
			k.instr, _ = b.u64(l.instr)
		}
		if e, ok := b.u8(l.isEntry); ok {
			k.entry = e != 0
		}
		if v.shim(k) {
			shims++
		}
		chain = append(chain, k)
		at, _ = b.u64(l.previous)
	}
	return chain, false, nil
}

// sameChain reports whether a walk now finds what it found before. The
// instruction of the innermost frame may differ: a thread that runs changes it
// all the time, and each value that was read was right when it was read.
func (v *view) sameChain(t *Thread, was []link) bool {
	now, _, _ := v.walk(t.Addr)
	if len(now) != len(was) {
		return false
	}
	inner := true
	for i := range now {
		a, b := now[i], was[i]
		if inner || v.shim(a) {
			a.instr, b.instr = 0, 0
		}
		if !v.shim(a) {
			inner = false
		}
		if a != b {
			return false
		}
	}
	return true
}

// code is what a view keeps of a code object.
type code struct {
	name, file           string
	firstLine, traceable int
	lines                []byte
	start                uint64 // of the instructions, from 3.11
}

func (v *view) code(addr uint64) (*code, error) {
	if c, ok := v.codes[addr]; ok {
		return c, nil
	}
	name, err := v.typeOf(addr)
	if err != nil {
		return nil, err
	}
	if name != "code" {
		return nil, fmt.Errorf("code object at 0x%x is a %q: %w", addr, name, ErrImplausible)
	}
	l := &v.lay.code
	b := make(block, l.size)
	if _, err := v.mem.ReadAt(b, addr); err != nil {
		return nil, fmt.Errorf("read code object: %w", err)
	}
	c := &code{}
	nameAt, ok := b.u64(l.qualname)
	if !ok {
		nameAt, _ = b.u64(l.name)
	}
	if c.name, err = v.str(nameAt); err != nil {
		return nil, fmt.Errorf("name of code object 0x%x: %w", addr, err)
	}
	fileAt, _ := b.u64(l.file)
	if c.file, err = v.str(fileAt); err != nil {
		return nil, fmt.Errorf("file name of code object 0x%x: %w", addr, err)
	}
	linesAt, _ := b.u64(l.lines)
	if c.lines, err = v.bytes(linesAt); err != nil {
		return nil, fmt.Errorf("line table of code object 0x%x: %w", addr, err)
	}
	first, _ := b.i32(l.firstLine)
	c.firstLine = int(first)
	traceable, _ := b.i32(v.lay.frame.firstTraceable)
	c.traceable = int(traceable)
	if l.bytes != absent {
		c.start = addr + uint64(l.bytes)
	}
	if v.kept += len(c.name) + len(c.file) + len(c.lines); v.kept > maxCode {
		return nil, fmt.Errorf("code objects have more than %d bytes of lines and names: %w", maxCode, ErrImplausible)
	}
	v.codes[addr] = c
	return c, nil
}

// typeOf returns tp_name of the type of an object.
func (v *view) typeOf(addr uint64) (string, error) {
	t, err := procmem.Uint64(v.mem, addr+8) // ob_type
	if err != nil {
		return "", fmt.Errorf("read object: %w", err)
	}
	if s, ok := v.types[t]; ok {
		return s, nil
	}
	at, err := procmem.Uint64(v.mem, t+uint64(v.lay.typeName))
	if err != nil {
		return "", fmt.Errorf("read type of object 0x%x: %w", addr, err)
	}
	s, err := cString(v.mem, at, 256)
	if err != nil {
		return "", fmt.Errorf("read name of the type of object 0x%x: %w", addr, err)
	}
	v.types[t] = s
	return s, nil
}

// str reads a str whose type is checked.
func (v *view) str(addr uint64) (string, error) {
	name, err := v.typeOf(addr)
	if err != nil {
		return "", err
	}
	if name != "str" {
		return "", fmt.Errorf("object at 0x%x is a %q, not a str: %w", addr, name, ErrImplausible)
	}
	return readString(v.mem, v.lay, addr)
}

// bytes reads a bytes object whose type is checked.
func (v *view) bytes(addr uint64) ([]byte, error) {
	name, err := v.typeOf(addr)
	if err != nil {
		return nil, err
	}
	if name != "bytes" {
		return nil, fmt.Errorf("object at 0x%x is a %q, not bytes: %w", addr, name, ErrImplausible)
	}
	n, err := procmem.Uint64(v.mem, addr+uint64(v.lay.bytesObject.size))
	if err != nil {
		return nil, err
	}
	if n > maxLineTable {
		return nil, fmt.Errorf("bytes object at 0x%x has %d bytes: %w", addr, n, ErrImplausible)
	}
	return procmem.Bytes(v.mem, addr+uint64(v.lay.bytesObject.data), int(n), maxLineTable)
}

// cString reads text up to a zero byte, at most limit bytes.
func cString(mem procmem.Reader, addr uint64, limit int) (string, error) {
	const step = 16
	var s []byte
	for len(s) < limit {
		var b [step]byte
		// Not across the end of a page: the next one may not be there.
		n := min(step, int(4096-(addr+uint64(len(s)))%4096))
		if _, err := mem.ReadAt(b[:n], addr+uint64(len(s))); err != nil {
			return "", err
		}
		for _, c := range b[:n] {
			if c == 0 {
				return string(s), nil
			}
			s = append(s, c)
		}
	}
	return "", fmt.Errorf("text at 0x%x is longer than %d bytes: %w", addr, limit, ErrImplausible)
}

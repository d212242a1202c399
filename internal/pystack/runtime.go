package pystack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"forkproof/internal/procmem"
)

// Errors of Find.
var (
	// ErrNoPython: no mapped file is a CPython interpreter.
	ErrNoPython = errors.New("no CPython interpreter in this process")
	// ErrVersion: an interpreter whose structures are not known.
	ErrVersion = errors.New("CPython of a release that forkproof does not know")
	// ErrTorn: what was read does not fit together; the interpreter is starting,
	// ending or running.
	ErrTorn = errors.New("the interpreter's state does not fit together")
)

// Bounds on what is walked.
const (
	maxThreads = 4096
	maxFrames  = 2000
	maxString  = 4096
	maxTable   = 1 << 20
)

// Object is a mapped file that may be an interpreter.
type Object interface {
	// SymbolAddr returns where a symbol lies in the process.
	SymbolAddr(name string) (uint64, bool)
	// SectionAddr returns where a section lies in the process.
	SectionAddr(name string) (uint64, bool)
	// FileName is the base name of the file.
	FileName() string
}

// Runtime is one interpreter.
type Runtime struct {
	mem     procmem.Reader
	Version string
	Minor   int
	addr    uint64
	l       layout
}

// Frame is one Python frame.
type Frame struct {
	Function, File string
	Line           int
	Addr           uint64
	// Entry: the frame was entered by a new call of the evaluation loop, so
	// that the next frame belongs to an outer native frame.
	Entry bool
}

// Thread is one PyThreadState.
type Thread struct {
	Addr uint64
	// Ident is pthread_self() of the thread that made it.
	Ident uint64
	// NativeID is the kernel's id as the interpreter noted it, 0 before 3.11.
	NativeID uint64
	Frames   []Frame
	// Torn says why the frames end early.
	Torn error
}

// Find looks for an interpreter among the mapped files.
func Find(mem procmem.Reader, objects []Object) (*Runtime, error) {
	for _, o := range objects {
		addr, ok := o.SymbolAddr("_PyRuntime")
		if !ok {
			if addr, ok = o.SectionAddr(".PyRuntime"); !ok {
				continue
			}
		}
		r := &Runtime{mem: mem, addr: addr}
		if err := r.identify(o); err != nil {
			return nil, err
		}
		if _, err := r.interp(); err != nil {
			return nil, err
		}
		return r, nil
	}
	return nil, ErrNoPython
}

func (r *Runtime) identify(o Object) error {
	var hex uint32
	head, err := procmem.Bytes(r.mem, r.addr, 512, 512)
	if err != nil {
		return fmt.Errorf("read _PyRuntime: %w", err)
	}
	debug := string(head[:8]) == "xdebugpy"
	if debug {
		hex = uint32(binary.LittleEndian.Uint64(head[8:]))
	} else if a, ok := o.SymbolAddr("Py_Version"); ok {
		if hex, err = procmem.Uint32(r.mem, a); err != nil {
			return fmt.Errorf("read Py_Version: %w", err)
		}
	}
	if hex != 0 {
		if hex>>24 != 3 {
			return fmt.Errorf("version %#x: %w", hex, ErrVersion)
		}
		r.Minor = int(hex >> 16 & 0xff)
		r.Version = fmt.Sprintf("3.%d.%d", r.Minor, hex>>8&0xff)
	} else if n, _ := fmt.Sscanf(o.FileName(), "python3.%d", &r.Minor); n == 1 {
		r.Version = fmt.Sprintf("3.%d", r.Minor)
	} else if n, _ := fmt.Sscanf(o.FileName(), "libpython3.%d", &r.Minor); n == 1 {
		r.Version = fmt.Sprintf("3.%d", r.Minor)
	}
	l, ok := layouts[r.Minor]
	if !ok {
		return fmt.Errorf("%s, version %q: %w", o.FileName(), r.Version, ErrVersion)
	}
	l.minor = r.Minor
	if d, ok := debugOffsetsOf[r.Minor]; ok {
		if !debug {
			return fmt.Errorf("no debug offsets in Python %s: %w", r.Version, ErrVersion)
		}
		if binary.LittleEndian.Uint64(head[16:]) != 0 {
			return fmt.Errorf("free-threaded Python %s: %w", r.Version, ErrVersion)
		}
		at := func(i int) uint64 { return binary.LittleEndian.Uint64(head[i:]) }
		l.interpHead, l.interpNext, l.threads, l.modules, l.interpGIL = at(d.interpHead), at(d.interpNext), at(d.threads), at(d.modules), at(d.interpGIL)
		l.tsNext, l.tsInterp, l.tsFrame, l.tsIdent, l.tsNative = at(d.tsNext), at(d.tsInterp), at(d.tsFrame), at(d.tsIdent), at(d.tsNative)
		l.frameBack, l.frameCode, l.frameInstr, l.frameOwner = at(d.frameBack), at(d.frameCode), at(d.frameInstr), at(d.frameOwner)
		l.codeFile, l.codeName, l.codeQualname = at(d.codeFile), at(d.codeName), at(d.codeQualname)
		l.codeTable, l.codeLine, l.codeStart = at(d.codeTable), at(d.codeLine), at(d.codeStart)
	}
	r.l = l
	return nil
}

func (r *Runtime) ptr(addr uint64) (uint64, error) { return procmem.Uint64(r.mem, addr) }

// interp returns the main interpreter and checks that its first thread points
// back to it.
func (r *Runtime) interp() (uint64, error) {
	in, err := r.ptr(r.addr + r.l.interpHead)
	if err != nil {
		return 0, err
	}
	// New interpreters are put at the head; the main one is the last.
	for range 64 {
		next, err := r.ptr(in + r.l.interpNext)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrTorn, err)
		}
		if next == 0 {
			break
		}
		in = next
	}
	ts, err := r.ptr(in + r.l.threads)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrTorn, err)
	}
	back, err := r.ptr(ts + r.l.tsInterp)
	if err != nil || back != in {
		return 0, fmt.Errorf("the first thread does not belong to the interpreter: %w", ErrTorn)
	}
	return in, nil
}

// Threads reads every thread of the main interpreter with its frames, innermost
// first.
func (r *Runtime) Threads() ([]Thread, error) {
	in, err := r.interp()
	if err != nil {
		return nil, err
	}
	ts, err := r.ptr(in + r.l.threads)
	if err != nil {
		return nil, err
	}
	var out []Thread
	for ; ts != 0 && len(out) < maxThreads; ts, err = r.ptr(ts + r.l.tsNext) {
		t := Thread{Addr: ts}
		if t.Ident, err = r.ptr(ts + r.l.tsIdent); err != nil {
			return out, fmt.Errorf("%w: %w", ErrTorn, err)
		}
		if r.l.tsNative != 0 {
			if t.NativeID, err = r.ptr(ts + r.l.tsNative); err != nil {
				return out, fmt.Errorf("%w: %w", ErrTorn, err)
			}
		}
		t.Frames, t.Torn = r.frames(ts)
		out = append(out, t)
	}
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrTorn, err)
	}
	return out, nil
}

func (r *Runtime) frames(ts uint64) ([]Frame, error) {
	f, err := r.ptr(ts + r.l.tsFrame)
	if err == nil && r.l.cframe && f != 0 {
		f, err = r.ptr(f + r.l.cframeFrame)
	}
	var out []Frame
	for n := 0; err == nil && f != 0; n++ {
		if n >= maxFrames {
			return out, fmt.Errorf("more than %d frames", maxFrames)
		}
		var b []byte
		if b, err = procmem.Bytes(r.mem, f, 112, 112); err != nil {
			break
		}
		foreign := r.l.frameOwner != 0 && r.l.foreign != 0 && b[r.l.frameOwner] >= r.l.foreign
		if foreign {
			// A frame of the interpreter's own stands between two runs of the
			// evaluation loop.
			if len(out) > 0 {
				out[len(out)-1].Entry = true
			}
		} else {
			fr, e := r.frame(f, b)
			if e != nil {
				return out, e
			}
			if r.l.frameOwner == 0 || (r.Minor == 11 && b[r.l.frameOwner-1] != 0) {
				fr.Entry = true
			}
			out = append(out, fr)
		}
		f = binary.LittleEndian.Uint64(b[r.l.frameBack:])
	}
	if err != nil {
		return out, fmt.Errorf("frame at 0x%x: %w: %w", f, ErrTorn, err)
	}
	return out, nil
}

func (r *Runtime) frame(addr uint64, b []byte) (Frame, error) {
	fr := Frame{Addr: addr}
	// 3.14 keeps tag bits in the reference to the code object.
	code := binary.LittleEndian.Uint64(b[r.l.frameCode:]) &^ 3
	c, err := procmem.Bytes(r.mem, code, 216, 216)
	if err != nil {
		return fr, fmt.Errorf("code object of frame 0x%x: %w: %w", addr, ErrTorn, err)
	}
	at := func(off uint64) uint64 { return binary.LittleEndian.Uint64(c[off:]) }
	name := r.l.codeName
	if r.l.codeQualname != 0 {
		name = r.l.codeQualname
	}
	if fr.Function, err = r.String(at(name)); err != nil {
		return fr, fmt.Errorf("function name of frame 0x%x: %w", addr, err)
	}
	if fr.File, err = r.String(at(r.l.codeFile)); err != nil {
		return fr, fmt.Errorf("file name of frame 0x%x: %w", addr, err)
	}
	first := int(int32(binary.LittleEndian.Uint32(c[r.l.codeLine:])))
	var lasti int
	switch r.l.lines {
	case lnotab:
		lasti = int(int32(binary.LittleEndian.Uint32(b[r.l.frameInstr:])))
	case pep626:
		lasti = 2 * int(int32(binary.LittleEndian.Uint32(b[r.l.frameInstr:])))
	case location:
		lasti = int(binary.LittleEndian.Uint64(b[r.l.frameInstr:]) - (code + r.l.codeStart))
	}
	table, err := r.bytesObject(at(r.l.codeTable))
	if err != nil {
		return fr, nil // a frame without a line is better than none
	}
	fr.Line = lineAt(r.l.lines, table, first, lasti)
	return fr, nil
}

// bytesObject reads a bytes object: size at 16, data at 32.
func (r *Runtime) bytesObject(addr uint64) ([]byte, error) {
	n, err := r.ptr(addr + 16)
	if err != nil || n > maxTable {
		return nil, fmt.Errorf("bytes object at 0x%x: %w", addr, ErrTorn)
	}
	return procmem.Bytes(r.mem, addr+32, int(n), maxTable)
}

// String reads a str object of at most 4096 characters.
func (r *Runtime) String(addr uint64) (string, error) {
	h, err := procmem.Bytes(r.mem, addr, 40, 40)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrTorn, err)
	}
	n := binary.LittleEndian.Uint64(h[16:])
	state := binary.LittleEndian.Uint32(h[32:]) >> r.l.strShift
	kind, compact, ascii := state&7, state>>3&1, state>>4&1
	if n > maxString || compact == 0 || (kind != 1 && kind != 2 && kind != 4) {
		return "", fmt.Errorf("string object at 0x%x: %w", addr, ErrTorn)
	}
	data := r.l.strDataWide
	if ascii == 1 {
		data = r.l.strData
	}
	b, err := procmem.Bytes(r.mem, addr+data, int(n)*int(kind), 4*maxString)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrTorn, err)
	}
	switch kind {
	case 1:
		out := make([]rune, n)
		for i, c := range b {
			out[i] = rune(c)
		}
		return string(out), nil
	case 2:
		u := make([]uint16, n)
		for i := range u {
			u[i] = binary.LittleEndian.Uint16(b[2*i:])
		}
		return string(utf16.Decode(u)), nil
	}
	out := make([]rune, n)
	for i := range out {
		out[i] = rune(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return string(out), nil
}

// GIL is the state of the interpreter's global lock.
type GIL struct {
	// Addr and Size bound the structure: a thread that waits for the GIL waits
	// on a futex word within it.
	Addr, Size uint64
	Locked     bool
	// Holder is the PyThreadState that holds it or held it last.
	Holder uint64
	// Ident and NativeID are the holder's, as Thread.
	Ident, NativeID uint64
	Switches        uint64
}

// Covers reports whether a futex word belongs to the GIL.
func (g GIL) Covers(addr uint64) bool { return g.Addr != 0 && addr-g.Addr < g.Size }

// GIL reads the global lock of the main interpreter.
func (r *Runtime) GIL() (GIL, error) {
	g := GIL{Size: gilSize}
	if r.l.runtimeGIL != 0 {
		g.Addr = r.addr + r.l.runtimeGIL
	} else {
		in, err := r.interp()
		if err != nil {
			return g, err
		}
		if g.Addr, err = r.ptr(in + r.l.interpGIL); err != nil {
			return g, err
		}
	}
	b, err := procmem.Bytes(r.mem, g.Addr, 32, 32)
	if err != nil {
		return g, fmt.Errorf("read the GIL: %w", err)
	}
	locked := int32(binary.LittleEndian.Uint32(b[gilLocked:]))
	if locked < -1 || locked > 1 {
		return g, fmt.Errorf("the GIL's locked field is %d: %w", locked, ErrTorn)
	}
	g.Locked = locked == 1
	g.Holder = binary.LittleEndian.Uint64(b[gilHolder:])
	g.Switches = binary.LittleEndian.Uint64(b[gilSwitch:])
	if g.Holder != 0 {
		if g.Ident, err = r.ptr(g.Holder + r.l.tsIdent); err != nil {
			return g, fmt.Errorf("read the holder of the GIL: %w", err)
		}
		if r.l.tsNative != 0 {
			if g.NativeID, err = r.ptr(g.Holder + r.l.tsNative); err != nil {
				return g, fmt.Errorf("read the holder of the GIL: %w", err)
			}
		}
	}
	return g, nil
}

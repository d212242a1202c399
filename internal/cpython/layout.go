package cpython

import "encoding/binary"

// absent is the offset of a field that a release does not have.
const absent = -1

// lineTable is the way a code object maps instructions to lines.
type lineTable uint8

const (
	linesNotab    lineTable = iota + 1 // co_lnotab, 3.8 and 3.9
	linesPairs                         // co_linetable of 3.10 (PEP 626)
	linesLocation                      // location table, 3.11 and later (PEP 657)
)

// layout tells where a release keeps what: byte offsets within its structures.
// The tables are for little-endian machines with 8-byte pointers; none of the
// structures before the fields used here hold a pthread object, so that amd64
// and arm64 agree. The internal locks that differ in size lie in the GIL, see
// gilSize.
type layout struct {
	// in _PyRuntimeState
	interpreters int // interpreters.head
	finalizing   int // a PyThreadState*
	gil          int // ceval.gil, until 3.11

	interp struct {
		next, id, threads, modules, sysdict, builtins int
		gil                                           int // ceval.gil, a pointer, from 3.12
	}
	thread struct {
		next, interp, ident int
		native              int // from 3.11
		frame               int // PyFrameObject* or _PyInterpreterFrame*; in 3.11 and 3.12 the _PyCFrame*
	}
	cframe int // current_frame in _PyCFrame (3.11, 3.12)
	frame  struct {
		object               bool // a PyFrameObject (until 3.10), not a _PyInterpreterFrame
		previous, code       int
		instr                int // f_lasti, prev_instr or instr_ptr
		instrUnit            int // bytes per step of f_lasti
		owner, isEntry       int
		shim                 int    // owners from this value on have no code of their own
		tag                  uint64 // bits of a tagged pointer to the code
		size, firstTraceable int    // bytes to read of a frame; _co_firsttraceable in the code object
	}
	code struct {
		file, name, qualname, firstLine, lines int
		bytes                                  int // co_code_adaptive, from 3.11
		kind                                   lineTable
		size                                   int // bytes to read of a code object
	}
	str struct {
		length, state  int
		ascii, compact int // where the characters of the two compact forms begin
		data           int // pointer to those of the old form
	}
	bytesObject struct{ size, data int }
	typeName    int // tp_name
}

// All releases from 3.8 to 3.14 have the same head of _gil_runtime_state
// (Include/internal/pycore_gil.h): interval, last_holder, locked,
// switch_number, cond, mutex, switch_cond, switch_mutex. Only a free-threaded
// build has a field before interval.
const (
	gilLastHolder = 8
	gilLocked     = 16
	gilSwitches   = 24
	gilCond       = 32
	gilMutex      = 80
)

// layoutFor returns the table of a minor release of Python 3.
func layoutFor(minor int) (layout, bool) {
	var l layout
	switch minor {
	case 8:
		l = layout38()
	case 9:
		l = layout39()
	case 10:
		l = layout310()
	case 11:
		l = layout311()
	case 12:
		l = layout312()
	case 13:
		l = layout313()
	case 14:
		l = layout314()
	default:
		return layout{}, false
	}
	return l, true
}

// common fills what no release from 3.8 to 3.14 has moved.
func (l *layout) common() {
	l.thread.next = 8
	l.thread.interp = 16
	l.str.length = 16
	l.str.state = 32
	l.bytesObject.size = 16
	l.bytesObject.data = 32
	l.typeName = 24
}

// block is a piece of a structure. Fields outside of it read as not there.
type block []byte

func (b block) u64(off int) (uint64, bool) {
	if off < 0 || off > len(b)-8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b[off:]), true
}

func (b block) i32(off int) (int32, bool) {
	if off < 0 || off > len(b)-4 {
		return 0, false
	}
	return int32(binary.LittleEndian.Uint32(b[off:])), true
}

func (b block) u8(off int) (uint8, bool) {
	if off < 0 || off >= len(b) {
		return 0, false
	}
	return b[off], true
}

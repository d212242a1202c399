package cpython

import "fmt"

// debugCookie begins _Py_DebugOffsets, which begins _PyRuntime from 3.13 on.
const debugCookie = "xdebugpy"

// debugHead is the part of _Py_DebugOffsets that all releases share: cookie,
// version, free_threaded.
const debugHead = 24

// debugIndex says where _Py_DebugOffsets of one minor release has its groups.
// Each group begins with the size of its structure. Releases insert fields in
// the middle, so the index of one must not be used for another.
type debugIndex struct {
	size                                                           int
	runtime, interp, interpModules, thread, frame, code, codeBytes int
	bytesObject, unicode, typeObject                               int
}

// parseDebugHead reads the head of _Py_DebugOffsets. ok is false where the
// bytes are something else.
func parseDebugHead(b []byte) (v Version, ok bool) {
	if len(b) < debugHead || string(b[:8]) != debugCookie {
		return Version{}, false
	}
	hex, _ := block(b).u64(8)
	free, _ := block(b).u64(16)
	v, ok = versionFromHex(hex)
	v.FreeThreaded = free != 0
	return v, ok
}

// versionFromHex decodes PY_VERSION_HEX.
func versionFromHex(hex uint64) (Version, bool) {
	if hex>>32 != 0 {
		return Version{}, false
	}
	v := Version{Major: int(hex >> 24), Minor: int(hex >> 16 & 0xff), Micro: int(hex >> 8 & 0xff)}
	return v, v.Major == 3
}

// Greatest offsets believed: of fields within the two big structures, and
// within the small ones, which are read as a whole.
const (
	maxBigOffset   = 1 << 22
	maxSmallOffset = 2048
)

// applyDebugOffsets replaces the offsets in l by what the process says.
func (l *layout) applyDebugOffsets(b []byte, x debugIndex) error {
	if len(b) < x.size {
		return fmt.Errorf("_Py_DebugOffsets is %d bytes, not %d: %w", len(b), x.size, ErrImplausible)
	}
	var failed error
	take := func(what string, to *int, at, limit, align int) {
		v, ok := block(b).u64(at)
		if !ok || v > uint64(limit) || v%uint64(align) != 0 {
			if failed == nil {
				failed = fmt.Errorf("_Py_DebugOffsets says that %s is at %d: %w", what, v, ErrImplausible)
			}
			return
		}
		*to = int(v)
	}
	big := func(what string, to *int, at int) { take(what, to, at, maxBigOffset, 8) }
	small := func(what string, to *int, at int) { take(what, to, at, maxSmallOffset, 8) }

	big("finalizing", &l.finalizing, x.runtime+8)
	big("interpreters.head", &l.interpreters, x.runtime+16)

	big("interpreter id", &l.interp.id, x.interp+8)
	big("next interpreter", &l.interp.next, x.interp+16)
	big("threads.head", &l.interp.threads, x.interp+24)
	big("imports.modules", &l.interp.modules, x.interpModules)
	big("sysdict", &l.interp.sysdict, x.interpModules+8)
	big("builtins", &l.interp.builtins, x.interpModules+16)
	big("ceval.gil", &l.interp.gil, x.interpModules+24)
	var gil, locked, holder int
	big("_gil", &gil, x.interpModules+32)
	big("_gil.locked", &locked, x.interpModules+48)
	big("_gil.last_holder", &holder, x.interpModules+56)

	small("next thread", &l.thread.next, x.thread+16)
	small("interp of a thread", &l.thread.interp, x.thread+24)
	small("current_frame", &l.thread.frame, x.thread+32)
	small("thread_id", &l.thread.ident, x.thread+40)
	small("native_thread_id", &l.thread.native, x.thread+48)

	small("previous frame", &l.frame.previous, x.frame+8)
	small("f_executable", &l.frame.code, x.frame+16)
	small("instr_ptr", &l.frame.instr, x.frame+24)
	take("owner", &l.frame.owner, x.frame+40, maxSmallOffset, 1)

	small("co_filename", &l.code.file, x.code+8)
	small("co_name", &l.code.name, x.code+16)
	small("co_qualname", &l.code.qualname, x.code+24)
	small("co_linetable", &l.code.lines, x.code+32)
	take("co_firstlineno", &l.code.firstLine, x.code+40, maxSmallOffset, 4)
	small("co_code_adaptive", &l.code.bytes, x.codeBytes)

	small("size of bytes", &l.bytesObject.size, x.bytesObject+8)
	small("data of bytes", &l.bytesObject.data, x.bytesObject+16)
	small("state of str", &l.str.state, x.unicode+8)
	small("length of str", &l.str.length, x.unicode+16)
	small("size of an ASCII str", &l.str.ascii, x.unicode+24)
	small("tp_name", &l.typeName, x.typeObject+8)
	if failed != nil {
		return failed
	}
	if holder-gil != gilLastHolder || locked-gil != gilLocked {
		return fmt.Errorf("_Py_DebugOffsets says that the GIL has its holder at %d and its state at %d: %w",
			holder-gil, locked-gil, ErrImplausible)
	}
	// A compact str that is not ASCII has two words more: utf8_length and utf8.
	l.str.compact = l.str.ascii + 16
	l.str.data = l.str.compact
	l.frame.size = max(l.frame.previous, l.frame.code, l.frame.instr, l.frame.owner) + 8
	l.code.size = max(l.code.file, l.code.name, l.code.qualname, l.code.firstLine, l.code.lines, l.frame.firstTraceable) + 8
	return nil
}

func debugIndexFor(minor int) (debugIndex, bool) {
	switch minor {
	case 13:
		return debugOffsets313(), true
	case 14:
		return debugOffsets314(), true
	default:
		return debugIndex{}, false
	}
}

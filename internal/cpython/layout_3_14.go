package cpython

// layout314 was measured with the internal headers of Debian's CPython 3.14.8.
// Find replaces what _Py_DebugOffsets of the process itself says. The pointer
// from a frame to its code is a _PyStackRef, with two bits of tag.
func layout314() layout {
	var l layout
	l.common()
	l.interpreters, l.finalizing, l.gil = 808, 784, absent
	l.interp.next, l.interp.id, l.interp.threads = 7272, 7280, 7344
	l.interp.modules, l.interp.sysdict, l.interp.builtins = 7688, 7672, 7680
	l.interp.gil = 16
	l.thread.ident, l.thread.native, l.thread.frame = 152, 160, 72
	l.cframe = absent
	f := &l.frame
	f.previous, f.code, f.instr = 8, 0, 56
	f.owner, f.isEntry, f.shim, f.tag = 74, absent, 3, 3
	f.size, f.firstTraceable = 80, 192
	c := &l.code
	c.file, c.name, c.qualname, c.firstLine, c.lines = 112, 120, 128, 68, 136
	c.bytes, c.kind, c.size = 208, linesLocation, 208
	l.str.ascii, l.str.compact, l.str.data = 40, 56, 56
	return l
}

// debugOffsets314 tells where _Py_DebugOffsets of 3.14 keeps what
// (Include/internal/pycore_debug_offsets.h of 3.14.8).
func debugOffsets314() debugIndex {
	return debugIndex{
		size:    760,
		runtime: 24, interp: 48, interpModules: 96,
		thread: 176, frame: 248, code: 312, codeBytes: 384,
		bytesObject: 592, unicode: 616, typeObject: 416,
	}
}

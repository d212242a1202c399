package cpython

// layout313 was measured with the internal headers of CPython 3.13.0. Find
// replaces what _Py_DebugOffsets of the process itself says.
func layout313() layout {
	var l layout
	l.common()
	l.interpreters, l.finalizing, l.gil = 632, 608, absent
	l.interp.next, l.interp.id, l.interp.threads = 7264, 7272, 7344
	l.interp.modules, l.interp.sysdict, l.interp.builtins = 7656, 7640, 7648
	l.interp.gil = 16
	l.thread.ident, l.thread.native, l.thread.frame = 152, 160, 72
	l.cframe = absent
	f := &l.frame
	f.previous, f.code, f.instr = 8, 0, 56
	f.owner, f.isEntry, f.shim = 70, absent, 3
	f.size, f.firstTraceable = 72, 184
	c := &l.code
	c.file, c.name, c.qualname, c.firstLine, c.lines = 112, 120, 128, 68, 136
	c.bytes, c.kind, c.size = 200, linesLocation, 200
	l.str.ascii, l.str.compact, l.str.data = 40, 56, 56
	return l
}

// debugOffsets313 tells where _Py_DebugOffsets of 3.13 keeps what
// (Include/internal/pycore_runtime.h of 3.13.0).
func debugOffsets313() debugIndex {
	return debugIndex{
		size:    584,
		runtime: 24, interp: 48, interpModules: 88,
		thread: 152, frame: 224, code: 272, codeBytes: 344,
		bytesObject: 512, unicode: 536, typeObject: 368,
	}
}

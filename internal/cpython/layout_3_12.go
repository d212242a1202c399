package cpython

// layout312 was measured with the internal headers of CPython 3.12.1. From this
// release every C evaluation loop puts a frame of its own, on the C stack,
// under those of the functions it runs, and interpreters may have a GIL each.
func layout312() layout {
	var l layout
	l.common()
	l.interpreters, l.finalizing, l.gil = 40, 24, absent
	l.interp.next, l.interp.id, l.interp.threads = 0, 8, 72
	l.interp.modules, l.interp.sysdict, l.interp.builtins = 944, 352, 360
	l.interp.gil = 384
	l.thread.ident, l.thread.native, l.thread.frame = 136, 144, 56
	l.cframe = 0
	f := &l.frame
	f.previous, f.code, f.instr = 8, 0, 56
	f.owner, f.isEntry, f.shim = 70, absent, 3
	f.size, f.firstTraceable = 72, 176
	c := &l.code
	c.file, c.name, c.qualname, c.firstLine, c.lines = 112, 120, 128, 68, 136
	c.bytes, c.kind, c.size = 192, linesLocation, 192
	l.str.ascii, l.str.compact, l.str.data = 40, 56, 56
	return l
}

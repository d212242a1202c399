package cpython

// layout311 was measured with the internal headers of CPython 3.11.7 and of
// Debian's 3.11.2. Frames are no objects any more: they lie on a stack of their
// own, and the newest is found through the _PyCFrame of the running C loop.
func layout311() layout {
	var l layout
	l.common()
	l.interpreters, l.finalizing, l.gil = 40, 24, 360
	l.interp.next, l.interp.id, l.interp.threads = 0, 48, 16
	l.interp.modules, l.interp.sysdict, l.interp.builtins = 888, 904, 912
	l.interp.gil = absent
	l.thread.ident, l.thread.native, l.thread.frame = 152, 160, 56
	l.cframe = 8
	f := &l.frame
	f.previous, f.code, f.instr = 48, 32, 56
	f.owner, f.isEntry, f.shim = 69, 68, 3
	f.size, f.firstTraceable = 72, 168
	c := &l.code
	c.file, c.name, c.qualname, c.firstLine, c.lines = 112, 120, 128, 72, 136
	c.bytes, c.kind, c.size = 184, linesLocation, 184
	l.str.ascii, l.str.compact, l.str.data = 48, 72, 72
	return l
}

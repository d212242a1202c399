package cpython

// layout38 was measured with the internal headers of CPython 3.8.18.
func layout38() layout {
	var l layout
	l.common()
	l.interpreters, l.finalizing, l.gil = 32, 16, 1152
	l.interp.next, l.interp.id, l.interp.threads = 0, 16, 8
	l.interp.modules, l.interp.sysdict, l.interp.builtins = 56, 72, 80
	l.interp.gil = absent
	l.thread.ident, l.thread.native, l.thread.frame = 176, absent, 24
	l.cframe = absent
	l.frameObject(104, 1)
	l.codeObject(linesNotab)
	l.str.ascii, l.str.compact, l.str.data = 48, 72, 72
	return l
}

// frameObject fills the offsets of PyFrameObject, which 3.8 to 3.10 have.
func (l *layout) frameObject(lasti, unit int) {
	f := &l.frame
	f.object = true
	f.previous, f.code, f.instr, f.instrUnit = 24, 32, lasti, unit
	f.owner, f.isEntry, f.firstTraceable = absent, absent, absent
	f.size = lasti + 4
}

// codeObject fills the offsets of PyCodeObject in 3.8 to 3.10.
func (l *layout) codeObject(kind lineTable) {
	c := &l.code
	c.file, c.name, c.qualname, c.firstLine, c.lines = 104, 112, absent, 40, 120
	c.bytes, c.kind, c.size = absent, kind, 128
}

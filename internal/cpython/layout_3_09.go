package cpython

// layout39 was measured with the internal headers of CPython 3.9.18.
func layout39() layout {
	var l layout
	l.common()
	l.interpreters, l.finalizing, l.gil = 32, 16, 352
	l.interp.next, l.interp.id, l.interp.threads = 0, 24, 8
	l.interp.modules, l.interp.sysdict, l.interp.builtins = 856, 872, 880
	l.interp.gil = absent
	l.thread.ident, l.thread.native, l.thread.frame = 176, absent, 24
	l.cframe = absent
	l.frameObject(104, 1)
	l.codeObject(linesNotab)
	l.str.ascii, l.str.compact, l.str.data = 48, 72, 72
	return l
}

package forkserver

// SameLayout reports whether the addresses of two programs in memory are equal.
func SameLayout(a, b Process) bool {
	return a.Exe == b.Exe && a.image.code == b.image.code && a.image.stack == b.image.stack && a.image.brk == b.image.brk && a.image.stack != 0
}

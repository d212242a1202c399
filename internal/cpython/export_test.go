package cpython

// LineAt is lineAt for the table that a minor release has.
func LineAt(minor int, table []byte, first, addr int) (int, bool) {
	l, _ := layoutFor(minor)
	return lineAt(l.code.kind, table, first, addr)
}

package cpython

// lineAt returns the line of the instruction at the byte offset addr, from a
// table of the given kind. A negative addr is a frame that has not begun: it
// stands at the first line. ok is false where the table gives the instruction
// no line, or ends before it.
func lineAt(kind lineTable, table []byte, first, addr int) (line int, ok bool) {
	if addr < 0 {
		return first, true
	}
	switch kind {
	case linesNotab:
		return lineNotab(table, first, addr), true
	case linesPairs:
		return linePairs(table, first, addr)
	case linesLocation:
		return lineLocation(table, first, addr)
	default:
		return 0, false
	}
}

// lineNotab reads co_lnotab of 3.8 and 3.9: pairs of an unsigned step of the
// address and a signed step of the line (Objects/lnotab_notes.txt).
func lineNotab(table []byte, first, addr int) int {
	line, at := first, 0
	for ; len(table) >= 2; table = table[2:] {
		at += int(table[0])
		if at > addr {
			break
		}
		line += int(int8(table[1]))
	}
	return line
}

// linePairs reads co_linetable of 3.10: pairs of the length of a range of
// addresses and the signed step to its line; the step -128 says that the range
// has no line and does not count (Objects/lnotab_notes.txt of 3.10).
func linePairs(table []byte, first, addr int) (int, bool) {
	line, end := first, 0
	for ; len(table) >= 2; table = table[2:] {
		end += int(table[0])
		step := int(int8(table[1]))
		if step != -128 {
			line += step
		}
		if addr < end {
			return line, step != -128
		}
	}
	return 0, false
}

// Kinds of entries in the location table of 3.11 and later
// (Objects/locations.md, from 3.14 InternalDocs/code_objects.md).
const (
	locOneLine0  = 10 // to 12: a step of 0, 1 or 2 lines
	locNoColumns = 13
	locLong      = 14
	locNone      = 15
)

// lineLocation reads the location table of 3.11 and later. An entry begins with
// a byte that has its highest bit set: four bits of kind, three of length in
// code units less one. All other bytes have that bit clear.
func lineLocation(table []byte, first, addr int) (int, bool) {
	line, end := first, 0
	for len(table) > 0 {
		head := table[0]
		table = table[1:]
		if head&0x80 == 0 {
			return 0, false // not at an entry: damaged
		}
		kind := int(head >> 3 & 15)
		end += 2 * (int(head&7) + 1)
		switch {
		case kind == locLong || kind == locNoColumns:
			step, ok := signedVarint(table)
			if !ok {
				return 0, false
			}
			line += step
		case kind >= locOneLine0 && kind < locNoColumns:
			line += kind - locOneLine0
		}
		if addr < end {
			return line, kind != locNone
		}
		for len(table) > 0 && table[0]&0x80 == 0 {
			table = table[1:]
		}
	}
	return 0, false
}

// signedVarint decodes a number of six bits per byte, the lowest first, bit 6
// set in all but the last; its lowest bit is the sign. ok is false where it is
// cut off or has more than the 32 bits of an int.
func signedVarint(b []byte) (n int, ok bool) {
	var u uint64
	for i, c := range b {
		if c&0x80 != 0 || i >= 6 {
			break
		}
		u |= uint64(c&63) << (6 * i)
		if c&64 != 0 {
			continue
		}
		if u>>32 != 0 {
			break
		}
		if u&1 != 0 {
			return -int(u >> 1), true
		}
		return int(u >> 1), true
	}
	return 0, false
}

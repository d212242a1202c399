package pystack

// lineAt returns the source line of the instruction at byte offset lasti, 0
// where the table gives none.
func lineAt(kind lineTable, table []byte, first, lasti int) int {
	switch kind {
	case lnotab:
		return lnotabLine(table, first, lasti)
	case pep626:
		return pep626Line(table, first, lasti)
	default:
		return locationLine(table, first, lasti)
	}
}

// lnotabLine reads co_lnotab of Python 3.9 and before (Objects/lnotab_notes.txt
// of 3.9): pairs of an unsigned byte increment and a signed line increment.
func lnotabLine(t []byte, line, lasti int) int {
	addr := 0
	for ; len(t) >= 2; t = t[2:] {
		if addr += int(t[0]); addr > lasti {
			break
		}
		line += int(int8(t[1]))
	}
	return line
}

// pep626Line reads co_linetable of Python 3.10 (Objects/lnotab_notes.txt of
// 3.10): pairs of a range's length and the line increment at its start; -128
// marks a range without a line.
func pep626Line(t []byte, line, lasti int) int {
	addr := 0
	for ; len(t) >= 2; t = t[2:] {
		d := int(int8(t[1]))
		none := d == -128
		if !none {
			line += d
		}
		if addr += int(t[0]); addr > lasti {
			if none {
				return 0
			}
			return line
		}
	}
	return line
}

// locationLine reads the location table of Python 3.11 and later
// (Objects/locations.md): each entry has a byte with a code and a length in
// code units of two bytes, and then data that depends on the code.
func locationLine(t []byte, line, lasti int) int {
	addr := 0
	for i := 0; i < len(t); {
		code, units := t[i]>>3&15, int(t[i]&7)+1
		i++
		none := false
		switch {
		case code == 15:
			none = true
		case code == 14, code == 13:
			var d int
			d, i = svarint(t, i)
			line += d
		case code >= 10:
			line += int(code) - 10
		}
		if addr += 2 * units; addr > lasti {
			if none {
				return 0
			}
			return line
		}
		// An entry's first byte is the only one with the top bit set.
		for i < len(t) && t[i]&0x80 == 0 {
			i++
		}
	}
	return 0
}

// svarint reads a signed number in groups of 6 bits, the sign in the lowest bit.
func svarint(t []byte, i int) (int, int) {
	v := uint(0)
	for shift := uint(0); i < len(t) && shift < 36; shift += 6 {
		b := t[i]
		i++
		v |= uint(b&63) << shift
		if b&64 == 0 {
			break
		}
	}
	if v&1 != 0 {
		return -int(v >> 1), i
	}
	return int(v >> 1), i
}

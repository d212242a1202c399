package cpython

import (
	"encoding/binary"
	"fmt"
	"strings"

	"forkproof/internal/procmem"
)

// String reads a str object: the compact forms, ASCII, Latin-1, UCS-2 and
// UCS-4, and the old form of 3.8 to 3.11 and of subclasses where its data is
// ready. A lone surrogate becomes U+FFFD. Of a text longer than 4096
// characters it returns the first 4096 and "…". The type of the object is not
// looked at (a subclass of str has another), only whether its head makes
// sense: anything else gives ErrNotString.
func (r *Runtime) String(addr uint64) (string, error) {
	return readString(r.mem, &r.lay, addr)
}

// TypeName returns the name of the type of the object at addr, as tp_name has
// it: "dict", "_thread.lock", "io.BufferedWriter" are all possible.
func (r *Runtime) TypeName(addr uint64) (string, error) {
	return r.newView().typeOf(addr)
}

func notString(addr uint64, why string, n uint64) error {
	return fmt.Errorf("object at 0x%x has %s %d: %w", addr, why, n, ErrNotString)
}

func readString(mem procmem.Reader, l *layout, addr uint64) (string, error) {
	head := make(block, max(l.str.length, l.str.state)+8)
	if _, err := mem.ReadAt(head, addr); err != nil {
		return "", fmt.Errorf("read str: %w", err)
	}
	length, _ := head.u64(l.str.length)
	flags, _ := head.i32(l.str.state)
	// state: interned 2 bits, kind 3, compact 1, ascii 1; then 3.8 to 3.11 have
	// ready (Include/cpython/unicodeobject.h).
	kind, compact, ascii := uint64(flags>>2&7), flags&(1<<5) != 0, flags&(1<<6) != 0
	if kind != 1 && kind != 2 && kind != 4 {
		return "", notString(addr, "a character size of", kind)
	}
	if length > 1<<40 {
		return "", notString(addr, "a length of", length)
	}
	if ascii && kind != 1 {
		return "", notString(addr, "the ASCII flag and a character size of", kind)
	}
	at := addr + uint64(l.str.compact)
	switch {
	case compact && ascii:
		at = addr + uint64(l.str.ascii)
	case !compact:
		var err error
		if at, err = procmem.Uint64(mem, addr+uint64(l.str.data)); err != nil {
			return "", fmt.Errorf("read str: %w", err)
		}
		if at == 0 {
			return "", notString(addr, "its characters at", 0)
		}
	}
	n := min(length, maxString)
	raw, err := procmem.Bytes(mem, at, int(n*kind), 4*maxString)
	if err != nil {
		return "", fmt.Errorf("read the characters of a str: %w", err)
	}
	s, bad := decode(raw, int(kind), ascii)
	if bad {
		return "", fmt.Errorf("object at 0x%x has characters that no str can have: %w", addr, ErrNotString)
	}
	if length > n {
		s += "…"
	}
	return s, nil
}

// decode turns characters of 1, 2 or 4 bytes into UTF-8. bad says that they are
// outside of what the object may hold.
func decode(raw []byte, kind int, ascii bool) (s string, bad bool) {
	var b strings.Builder
	b.Grow(len(raw)/kind + 8)
	for ; len(raw) >= kind; raw = raw[kind:] {
		var c uint32
		switch kind {
		case 1:
			c = uint32(raw[0])
			if ascii && c >= 0x80 {
				return "", true
			}
		case 2:
			c = uint32(binary.LittleEndian.Uint16(raw))
		default:
			c = binary.LittleEndian.Uint32(raw)
		}
		if c > 0x10ffff {
			return "", true
		}
		b.WriteRune(rune(c)) // U+FFFD for a surrogate
	}
	return b.String(), false
}

package pylock

import (
	"encoding/binary"
	"math"
	"strings"
	"unicode/utf8"
)

// class is what an object is, as far as the search for locks is concerned.
type class uint8

const (
	classOther class = iota // holds no lock that we look for
	classLock
	classRLock
	classBuffered
	classQueue
	classText
	classDict
	classList
	classTuple
	classType
	classModule
	classFunction
	classCell
	classWeakref
	classInstance // has attributes in a dict or in values
	classBad      // no object at all
)

// typeInfo is what is kept of a type object.
type typeInfo struct {
	class      class
	flags      uint64
	basicSize  uint64
	dictOffset int64
	keys       uint64 // ht_cached_keys
	dict       uint64
	name       string // tp_name
}

// Bounds on what is believed of an object.
const (
	maxEntries   = 4096 // of a dict, list or tuple
	maxTableLog2 = 40
	maxTypeName  = 128
	maxText      = 400 // characters of a name
	maxBases     = 8
	maxAddr      = 1 << 56 // user addresses are below
)

// word reads 8 bytes. ok is false where there is no memory.
func (h *Heap) word(addr uint64) (uint64, bool) {
	b := h.buf[:8]
	if !plausible(addr) {
		return 0, false
	}
	if _, err := h.mem.ReadAt(b, addr); err != nil {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b), true
}

func (h *Heap) read(p []byte, addr uint64) bool {
	if !plausible(addr) || addr+uint64(len(p)) > maxAddr {
		return false
	}
	_, err := h.mem.ReadAt(p, addr)
	return err == nil
}

func plausible(addr uint64) bool { return addr >= 4096 && addr < maxAddr }

// aligned reports whether addr can be that of an object.
func aligned(addr uint64) bool { return plausible(addr) && addr%8 == 0 }

func u64(b []byte, off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }

// objectType returns the type of the object at addr, nil where there is none.
func (h *Heap) objectType(addr uint64) *typeInfo {
	if !aligned(addr) {
		return nil
	}
	t, ok := h.word(addr + obType)
	if !ok {
		return nil
	}
	ti := h.typeAt(t)
	if ti.class == classBad {
		return nil
	}
	return ti
}

// maxTypes bounds the cache of types against memory that looks like types
// everywhere.
const maxTypes = 20_000

var badType = typeInfo{class: classBad}

func (h *Heap) typeAt(t uint64) *typeInfo {
	if ti, ok := h.types[t]; ok {
		return ti
	}
	ti := &badType
	if len(h.types) < maxTypes {
		ti = h.readType(t)
		h.types[t] = ti
	}
	return ti
}

// typeBytes reads the head of a type object and checks that its own type is a
// metatype.
func (h *Heap) typeBytes(t uint64) []byte {
	if !aligned(t) {
		return nil
	}
	meta, ok := h.word(t + obType)
	if !ok || !aligned(meta) {
		return nil
	}
	flags, ok := h.word(meta + tpFlags)
	if !ok || flags&flagType == 0 {
		return nil
	}
	b := make([]byte, typeHead)
	if !h.read(b, t) {
		return nil
	}
	return b
}

func (h *Heap) readType(t uint64) *typeInfo {
	b := h.typeBytes(t)
	if b == nil {
		return &badType
	}
	ti := &typeInfo{
		flags: u64(b, tpFlags), basicSize: u64(b, tpBasicSize),
		dictOffset: int64(u64(b, tpDictOffset)), dict: u64(b, tpDict),
	}
	var ok bool
	if ti.name, ok = h.cstring(u64(b, tpName)); !ok || ti.basicSize < 16 || ti.basicSize > math.MaxInt32 {
		return &badType
	}
	if ti.flags&flagHeap != 0 {
		ti.keys, _ = h.word(t + uint64(h.lay.cachedKeys))
	}
	ti.class = h.classOf(t, ti.name, ti)
	return ti
}

// classOf decides by flags where CPython has them, else by the name of the type
// or of one of its bases: subclasses of these types have their fields.
func (h *Heap) classOf(t uint64, name string, ti *typeInfo) class {
	switch {
	case ti.flags&flagType != 0:
		return classType
	case ti.flags&flagDict != 0:
		return classDict
	case ti.flags&flagList != 0:
		return classList
	case ti.flags&flagTuple != 0:
		return classTuple
	case ti.flags&(flagLong|flagUnicode) != 0:
		return classOther
	}
	for range maxBases {
		if c, ok := classByName(name); ok {
			return c
		}
		b := h.typeBytes(t)
		if b == nil {
			break
		}
		if t = u64(b, tpBase); t == 0 {
			break
		}
		base := h.typeBytes(t)
		if base == nil {
			break
		}
		var ok bool
		if name, ok = h.cstring(u64(base, tpName)); !ok {
			break
		}
	}
	if h.lay.managed != managedNone && ti.flags&flagManaged != 0 || ti.flags&flagHeap != 0 && ti.dictOffset > 0 {
		return classInstance
	}
	return classOther
}

func classByName(name string) (class, bool) {
	switch name {
	case "_thread.lock":
		return classLock, true
	case "_thread.RLock":
		return classRLock, true
	case "_io.BufferedReader", "_io.BufferedWriter", "_io.BufferedRandom":
		return classBuffered, true
	case "_queue.SimpleQueue":
		return classQueue, true
	case "_io.TextIOWrapper":
		return classText, true
	case "module":
		return classModule, true
	case "function":
		return classFunction, true
	case "cell":
		return classCell, true
	case "weakref", "weakref.ReferenceType":
		return classWeakref, true
	}
	return classOther, false
}

// cstring reads a short printable ASCII or UTF-8 text that ends with a zero.
func (h *Heap) cstring(addr uint64) (string, bool) {
	b := h.buf[:maxTypeName]
	if !h.read(b, addr) {
		// It may end just before memory does.
		b = b[:16]
		if !h.read(b, addr) {
			return "", false
		}
	}
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), i > 0 && utf8.Valid(b[:i])
		}
		if c < 0x20 || c == 0x7f {
			return "", false
		}
	}
	return "", false
}

// str reads a compact str, up to maxText characters. ok is false for anything
// else; names in CPython are always compact.
func (h *Heap) str(addr uint64) (string, bool) {
	ti := h.objectType(addr)
	if ti == nil || ti.flags&flagUnicode == 0 {
		return "", false
	}
	head := h.buf[:40]
	if !h.read(head, addr) {
		return "", false
	}
	n, state := u64(head, 16), binary.LittleEndian.Uint32(head[32:])
	kind, compact, ascii := uint64(state>>2&7), state&(1<<5) != 0, state&(1<<6) != 0
	if !compact || n > 1<<40 || kind != 1 && kind != 2 && kind != 4 {
		return "", false
	}
	at := addr + uint64(h.lay.strOther)
	if ascii {
		at = addr + uint64(h.lay.strASCII)
	}
	cut := n > maxText
	n = min(n, maxText)
	raw := make([]byte, n*kind)
	if !h.read(raw, at) {
		return "", false
	}
	var s strings.Builder
	for ; len(raw) > 0; raw = raw[kind:] {
		var c uint32
		switch kind {
		case 1:
			c = uint32(raw[0])
		case 2:
			c = uint32(binary.LittleEndian.Uint16(raw))
		default:
			c = binary.LittleEndian.Uint32(raw)
		}
		if c > utf8.MaxRune || ascii && c >= 0x80 {
			return "", false
		}
		s.WriteRune(rune(c))
	}
	if cut {
		s.WriteString("…")
	}
	return s.String(), true
}

// long reads an int that fits into 64 bits and is not negative.
func (h *Heap) long(addr uint64) (uint64, bool) {
	ti := h.objectType(addr)
	if ti == nil || ti.flags&flagLong == 0 {
		return 0, false
	}
	size, ok := h.word(addr + longSize)
	if !ok {
		return 0, false
	}
	if h.lay.longTag {
		// lv_tag: two bits of sign (0 positive, 1 zero, 2 negative), one of flags.
		if size&3 == 2 {
			return 0, false
		}
		if size&3 == 1 {
			return 0, true
		}
		size >>= 3
	}
	if size > 3 {
		return 0, false
	}
	var v uint64
	for i := range size {
		digits, ok := h.word(addr + longDigits + 4*i)
		digit := digits & math.MaxUint32
		if !ok || digit>>30 != 0 || i == 2 && digit>>4 != 0 {
			return 0, false
		}
		v |= digit << (30 * i)
	}
	return v, true
}
